// Detect without Python, with OpenVINO: detect model.onnx picture.ppm [classes.txt]
//
// The model was written by 'falconet export RUN --nms', as .onnx or with --to openvino, with "resize": "stretch" (the
// NanoDets). classes.txt has a name a line.
#include <openvino/openvino.hpp>

#include <iostream>

#include "picture.hpp"

static void run(const std::string& path, const std::string& picture_path, const char* classes) {
    ov::Core core;
    auto model = core.compile_model(path, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();
    const auto input = model.input().get_partial_shape();
    const size_t height = input[1].get_length(), width = input[2].get_length();

    const Picture original = read_ppm(picture_path);
    const Picture fitted = fit(original, width, height);
    ov::Tensor pixels(ov::element::u8, {1, height, width, 3});  // rows, columns, blue, green, red
    auto* bgr = pixels.data<uint8_t>();
    for (size_t place = 0; place < fitted.rgb.size(); ++place) bgr[place] = fitted.rgb[place - place % 3 + 2 - place % 3];
    request.set_input_tensor(pixels);
    request.infer();

    const auto found = request.get_tensor("detections");  // [N, 6]: x1, y1, x2, y2 in input pixels, score, class
    const auto* row = found.data<const float>();
    std::vector<Box> boxes;
    for (size_t number = 0; number < found.get_shape()[0]; ++number, row += 6) {
        boxes.push_back({row[0], row[1], row[2], row[3], row[4], static_cast<size_t>(row[5])});
    }
    print(boxes, original, width, height, read_names(classes));
}

int main(int count, char** words) {
    if (count < 3) {
        std::cerr << "usage: detect model.onnx picture.ppm [classes.txt]\n";
        return 2;
    }
    try {
        run(words[1], words[2], count > 3 ? words[3] : nullptr);
        return 0;
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
