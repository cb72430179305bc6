// What the examples share: pictures as Falconet fits them to a network's input, and boxes as they print them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct Picture {
    size_t width = 0, height = 0;
    std::vector<uint8_t> rgb;
};

struct Box {
    float x1, y1, x2, y2;  // in input pixels
    float score;
    size_t label;
};

// A binary PPM ("convert picture.jpg picture.ppm"), so that no library is needed; with OpenCV or stb_image in its place,
// give `fit` rows of red, green, blue.
Picture read_ppm(const std::string& path);

// The picture at the size of the input.
Picture fit(Picture picture, size_t width, size_t height);

// The lines of a file; none where `path` is null.
std::vector<std::string> read_names(const char* path);

// A line a box, in pixels of the original, of which the input had this width and height.
void print(const std::vector<Box>& boxes, const Picture& original, size_t width, size_t height,
           const std::vector<std::string>& names);
