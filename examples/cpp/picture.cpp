#include "picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

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
Picture fit(Picture picture, size_t width, size_t height) {
    const auto half = [](size_t side, size_t least) { return side >= 2 * least ? side / 2 : side; };
    while (picture.width >= 2 * width || picture.height >= 2 * height) {
        picture = bilinear(picture, half(picture.width, width), half(picture.height, height));
    }
    return bilinear(picture, width, height);
}

Picture read_ppm(const std::string& path) {
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

std::vector<std::string> read_names(const char* path) {
    std::vector<std::string> names;
    if (path == nullptr) return names;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) names.push_back(line);
    return names;
}

void print(const std::vector<Box>& boxes, const Picture& original, size_t width, size_t height,
           const std::vector<std::string>& names) {
    const double across = double(original.width) / width, down = double(original.height) / height;
    for (const auto& box : boxes) {
        const std::string name = box.label < names.size() ? names[box.label] : std::to_string(box.label);
        std::printf("%s %.2f at %ld,%ld,%ld,%ld\n", name.c_str(), box.score, std::lround(box.x1 * across),
                    std::lround(box.y1 * down), std::lround(box.x2 * across), std::lround(box.y2 * down));
    }
}
