// Detect without Python: detect model.onnx picture.ppm [classes.txt]
//
// The model was written by 'falconet export RUN --nms', as .onnx or with --to openvino, with "resize": "stretch" (the
// NanoDets). The picture is a binary PPM ("convert picture.jpg picture.ppm"), so that no library is needed for it; with
// OpenCV or stb_image in its place, give `fit` rows of red, green, blue.
#include <openvino/openvino.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    size_t width = 0, height = 0;
    std::vector<uint8_t> rgb;
};

// The two pixels of a side that one of the result lies between, and the share of the second.
struct Neighbours {
    size_t first, second;
    double share;
};

static std::vector<Neighbours> neighbours(size_t from, size_t to) {
    std::vector<Neighbours> found(to);
    for (size_t index = 0; index < to; ++index) {
        const double middle = std::max(0.0, (index + 0.5) * from / to - 0.5);
        const size_t first = std::min(static_cast<size_t>(middle), from - 1);
        found[index] = {first, std::min(first + 1, from - 1), middle - first};
    }
    return found;
}

static Picture bilinear(const Picture& from, size_t width, size_t height) {
    Picture to{width, height, std::vector<uint8_t>(3 * width * height)};
    const auto columns = neighbours(from.width, width), rows = neighbours(from.height, height);
    size_t place = 0;
    for (const auto& row : rows) {
        for (const auto& column : columns) {
            for (size_t channel = 0; channel < 3; ++channel) {
                const auto at = [&](size_t y, size_t x) { return from.rgb[3 * (y * from.width + x) + channel]; };
                const double upper =
                    at(row.first, column.first) * (1 - column.share) + at(row.first, column.second) * column.share;
                const double lower =
                    at(row.second, column.first) * (1 - column.share) + at(row.second, column.second) * column.share;
                to.rgb[place++] = static_cast<uint8_t>(std::lround(upper * (1 - row.share) + lower * row.share));
            }
        }
    }
    return to;
}

// As Falconet fits a picture to the input: each side is halved as often as it stays large enough, then interpolated.
// Whoever leaves out the halving finds other boxes in large pictures.
static Picture fit(Picture picture, size_t width, size_t height) {
    const auto half = [](size_t side, size_t least) { return side >= 2 * least ? side / 2 : side; };
    while (picture.width >= 2 * width || picture.height >= 2 * height) {
        picture = bilinear(picture, half(picture.width, width), half(picture.height, height));
    }
    return bilinear(picture, width, height);
}

static Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    Picture picture;
    size_t largest = 0;
    file >> kind >> picture.width >> picture.height >> largest;
    if (!file || kind != "P6" || largest != 255) {
        throw std::runtime_error(path + ": expected a binary PPM of 8 bits");
    }
    file.get();
    picture.rgb.resize(3 * picture.width * picture.height);
    if (!file.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()))) {
        throw std::runtime_error(path + ": is cut short");
    }
    return picture;
}

static int run(const std::string& path, const std::string& picture_path, const char* classes) {
    std::vector<std::string> names;
    if (classes != nullptr) {
        std::ifstream file(classes);
        for (std::string line; std::getline(file, line);) names.push_back(line);
    }
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
    const double across = double(original.width) / width, down = double(original.height) / height;
    for (size_t number = 0; number < found.get_shape()[0]; ++number, row += 6) {
        const auto label = static_cast<size_t>(row[5]);
        const std::string name = label < names.size() ? names[label] : std::to_string(label);
        std::printf("%s %.2f at %ld,%ld,%ld,%ld\n", name.c_str(), row[4], std::lround(row[0] * across),
                    std::lround(row[1] * down), std::lround(row[2] * across), std::lround(row[3] * down));
    }
    return 0;
}

int main(int count, char** words) {
    if (count < 3) {
        std::cerr << "usage: detect model.onnx picture.ppm [classes.txt]\n";
        return 2;
    }
    try {
        return run(words[1], words[2], count > 3 ? words[3] : nullptr);
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
