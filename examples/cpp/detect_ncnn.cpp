// Detect without Python, with ncnn: detect model.param picture.ppm [classes.txt]
//
// The three files of the model (.param, .bin, .falconet.json) were written by 'falconet export RUN --to ncnn', with
// "resize": "stretch" (the NanoDets). ncnn's files hold no selection, so that it is done here. classes.txt has a name a
// line. ncnn comes from a package of the system (Homebrew, Arch), from its releases, or is built from source: see
// "From other languages" in docs/detect.md.
#include <net.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>

#include "picture.hpp"

// What model.falconet.json says about the model. A program that has a library for JSON asks that instead.
class Manifest {
public:
    explicit Manifest(const std::string& path) : path(path) {
        std::ifstream file(path);
        text.assign(std::istreambuf_iterator<char>(file), {});
        if (text.empty()) throw std::runtime_error(path + ": cannot be read; it belongs beside the .param");
    }
    double number(const std::string& name) const {
        const size_t found = text.find('"' + name + "\": ");
        if (found == std::string::npos) throw std::runtime_error(path + ": has no " + name);
        return std::stod(text.substr(found + name.size() + 4));
    }

private:
    std::string path, text;
};

static float area(const Box& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); }

static float overlap(const Box& one, const Box& other) {
    const float width = std::min(one.x2, other.x2) - std::max(one.x1, other.x1);
    const float height = std::min(one.y2, other.y2) - std::max(one.y1, other.y1);
    if (width <= 0 || height <= 0) return 0;
    return width * height / (area(one) + area(other) - width * height);
}

// The pairs of a point and a class that score above the threshold, and of those the ones that no better box of their
// class covers (non-maximum suppression).
static std::vector<Box> select(const ncnn::Mat& corners, const ncnn::Mat& scores, const Manifest& manifest, float width,
                               float height) {
    const auto least = static_cast<float>(manifest.number("score_threshold"));
    const auto most_alike = static_cast<float>(manifest.number("iou_threshold"));
    std::vector<Box> candidates, kept;
    for (int point = 0; point < scores.h; ++point) {
        const float* box = corners.row(point);
        for (int label = 0; label < scores.w; ++label) {
            const float score = scores.row(point)[label];
            if (score <= least) continue;
            candidates.push_back({std::clamp(box[0], 0.f, width), std::clamp(box[1], 0.f, height),
                                  std::clamp(box[2], 0.f, width), std::clamp(box[3], 0.f, height), score,
                                  static_cast<size_t>(label)});
        }
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Box& one, const Box& other) { return one.score > other.score; });
    candidates.resize(std::min(candidates.size(), static_cast<size_t>(manifest.number("max_candidates"))));
    for (const Box& box : candidates) {
        const auto covers = [&](const Box& other) { return other.label == box.label && overlap(box, other) > most_alike; };
        if (std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(box);
    }
    kept.resize(std::min(kept.size(), static_cast<size_t>(manifest.number("max_detections"))));
    return kept;
}

static void run(const std::string& path, const std::string& picture_path, const char* classes) {
    const std::string stem = path.substr(0, path.rfind('.'));
    const Manifest manifest(stem + ".falconet.json");
    const auto width = static_cast<int>(manifest.number("width")), height = static_cast<int>(manifest.number("height"));
    ncnn::Net network;
    // In float32, in which Falconet compared the model with torch; without this line ncnn computes in half precision
    // where the processor can, which is faster.
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = false;
    if (network.load_param(path.c_str()) || network.load_model((stem + ".bin").c_str())) {
        throw std::runtime_error(path + ": ncnn cannot read it");
    }

    const Picture original = read_ppm(picture_path);
    const Picture fitted = fit(original, width, height);
    auto extractor = network.create_extractor();
    extractor.input("in0", ncnn::Mat::from_pixels(fitted.rgb.data(), ncnn::Mat::PIXEL_RGB2BGR, width, height));
    ncnn::Mat corners, scores;  // [points, 4] in input pixels, [points, classes]
    if (extractor.extract("out0", corners) || extractor.extract("out1", scores)) {
        throw std::runtime_error(path + ": cannot be run");
    }
    print(select(corners, scores, manifest, width, height), original, width, height, read_names(classes));
}

int main(int count, char** words) {
    if (count < 3) {
        std::cerr << "usage: detect model.param picture.ppm [classes.txt]\n";
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
