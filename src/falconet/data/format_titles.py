"""What messages and the command line call the formats that are read. Imports nothing heavy."""

TITLES = {
    "voc": "Pascal VOC (.xml files in 'Annotations', or a list in ImageSets/Main)",
    "yolo": "YOLO (.yaml with 'names')",
    "darknet": "darknet or CVAT (obj.data)",
    "coco": "COCO (.json)",
    "label-studio": "Label Studio (.json)",
    "createml": "CreateML (.json)",
    "labelme": "labelme (a .json file per picture)",
    "csv": "a table (.csv with filename, class, xmin, ...)",
    "open-images": "Open Images (.csv)",
    "shards": "WebDataset shards (.tar, a folder of them, or a pattern such as 'train-{000000..000099}.tar')",
    "labelimg": "labelImg (classes.txt)",
}
