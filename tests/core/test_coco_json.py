"""COCO's JSON form by hand."""

from falconet.core.coco_json import coco_annotation, coco_categories, coco_result


def test_by_hand() -> None:
    assert coco_categories(["a", "b"]) == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    result = coco_result("x", 1, (10.0, 20.5, 40.12345, 30.5), score=0.12345678)
    assert result == {"image_id": "x", "category_id": 2, "bbox": [10, 20.5, 30.123, 10], "score": 0.123457}
    assert coco_annotation(7, result) == {"id": 7, **result, "area": 301.23, "iscrowd": 0}
    plain = coco_result(3, 0, (0, 0, 2, 0.1234567), digits=6)
    assert plain == {"image_id": 3, "category_id": 1, "bbox": [0, 0, 2, 0.123457]}
    assert coco_annotation(1, plain, area=5.0, crowd=True)["area"] == 5
    assert coco_annotation(1, plain, area=5.0, crowd=True)["iscrowd"] == 1
