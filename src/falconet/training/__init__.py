"""Everything that is thrown away after training. Needs torch (`pip install 'falconet[train]'`)."""

from falconet.training.fit import fit, resume
from falconet.training.recipes import read_run
from falconet.training.run_config import RunConfig

__all__ = ["RunConfig", "fit", "read_run", "resume"]
