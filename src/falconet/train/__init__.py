"""Everything that is thrown away after training. Needs torch (`pip install 'falconet[train]'`)."""

from falconet.train.fit import fit, resume
from falconet.train.recipes import read_run
from falconet.train.run_config import RunConfig

__all__ = ["RunConfig", "fit", "read_run", "resume"]
