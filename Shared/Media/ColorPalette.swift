import CFFmpeg
import Tensor

/// Up to 256 colours for a whole video, chosen by variance-weighted median cut (Heckbert 1982), with ordered dithering.
///
/// One palette for all frames, and a dither pattern that stands still, keep unchanging areas from flickering. A video
/// of at most 256 distinguishable colours is not dithered.
struct ColorPalette {
    /// Colours are told apart by 6 bits a channel.
    private static let binCount = 1 << 18

    private struct Sample {
        var color: SIMD3<Float>
        var weight: Float
    }

    let colors: [SIMD3<Float>]
    /// Peak-to-peak size of the dither pattern in 8-bit levels.
    private let ditherSpread: Float
    /// The nearest colour of every bin.
    private let nearest: [UInt8]

    /// The palette of uint8 RGB frames `[t, H, W, 3]`.
    init(of clips: [Tensor]) {
        let samples = Self.samples(clips)
        let chosen = Self.colors(samples)
        colors = chosen
        let error = Self.rootMeanSquareError(samples, chosen)
        ditherSpread = samples.count <= 256 ? 0 : min(40, 3.5 * error)
        nearest = (0..<Self.binCount).map { bin in
            let center = SIMD3<Float>(Float(bin >> 12), Float((bin >> 6) & 63), Float(bin & 63)) * 4 + 1.5
            return UInt8(Self.nearestIndex(center, chosen))
        }
    }

    /// The mean colour and frequency of every occupied bin.
    private static func samples(_ clips: [Tensor]) -> [Sample] {
        var sums = [SIMD4<UInt32>](repeating: .zero, count: binCount)
        for clip in clips {
            // Every pixel of a short clip, a fixed share of a long one.
            let step = max(1, clip.count / 3 / 8_000_000)
            clip.withUnsafeBytes { bytes in
                for pixel in stride(from: 0, to: bytes.count / 3, by: step) {
                    let (red, green, blue) = (bytes[pixel * 3], bytes[pixel * 3 + 1], bytes[pixel * 3 + 2])
                    let bin = Int(red >> 2) << 12 | Int(green >> 2) << 6 | Int(blue >> 2)
                    // The low two bits suffice for the mean, and never overflow.
                    sums[bin] &+= SIMD4(UInt32(red & 3), UInt32(green & 3), UInt32(blue & 3), 1)
                }
            }
        }
        return sums.indices.compactMap { bin in
            guard sums[bin].w > 0 else { return nil }
            let weight = Float(sums[bin].w)
            let base = SIMD3<Float>(Float(bin >> 12), Float((bin >> 6) & 63), Float(bin & 63)) * 4
            return Sample(
                color: base + SIMD3(Float(sums[bin].x), Float(sums[bin].y), Float(sums[bin].z)) / weight, weight: weight
            )
        }
    }

    /// A run of samples with the axis along which it varies most.
    private struct Box {
        var range: Range<Int>
        var axis = 0
        var variation: Float = 0
        var mean: SIMD3<Float> = .zero

        init(_ range: Range<Int>, _ samples: [Sample]) {
            self.range = range
            var weight: Float = 0
            var sum: SIMD3<Float> = .zero
            for index in range {
                weight += samples[index].weight
                sum += samples[index].color * samples[index].weight
            }
            mean = sum / weight
            var squares: SIMD3<Float> = .zero
            for index in range {
                let distance = samples[index].color - mean
                squares += distance * distance * samples[index].weight
            }
            for candidate in 0..<3 where squares[candidate] > variation {
                variation = squares[candidate]
                axis = candidate
            }
        }
    }

    private static func colors(_ input: [Sample]) -> [SIMD3<Float>] {
        guard input.count > 256 else { return input.map(\.color) }
        var samples = input
        var boxes = [Box(samples.indices, samples)]
        while boxes.count < 256 {
            guard let widest = boxes.indices.max(by: { boxes[$0].variation < boxes[$1].variation }),
                boxes[widest].variation > 0
            else { break }
            let box = boxes[widest]
            samples[box.range].sort { $0.color[box.axis] < $1.color[box.axis] }
            let split = box.range.first { samples[$0].color[box.axis] >= box.mean[box.axis] } ?? box.range.upperBound
            let middle = min(max(split, box.range.lowerBound + 1), box.range.upperBound - 1)
            boxes[widest] = Box(box.range.lowerBound..<middle, samples)
            boxes.append(Box(middle..<box.range.upperBound, samples))
        }
        return boxes.map(\.mean)
    }

    private static func nearestIndex(_ color: SIMD3<Float>, _ colors: [SIMD3<Float>]) -> Int {
        var best = (index: 0, distance: Float.infinity)
        for index in colors.indices {
            let difference = colors[index] - color
            let distance = (difference * difference).sum()
            if distance < best.distance { best = (index, distance) }
        }
        return best.index
    }

    private static func rootMeanSquareError(_ samples: [Sample], _ colors: [SIMD3<Float>]) -> Float {
        var error: Float = 0
        var weight: Float = 0
        // A share of the colours tells the error well enough.
        for index in stride(from: 0, to: samples.count, by: max(1, samples.count / 2048)) {
            let difference = samples[index].color - colors[nearestIndex(samples[index].color, colors)]
            error += (difference * difference).sum() * samples[index].weight
            weight += samples[index].weight * 3
        }
        return weight > 0 ? (error / weight).squareRoot() : 0
    }

    /// The 8×8 Bayer matrix, centred on zero, of spread one.
    private static let pattern: [Float] = (0..<64).map { cell in
        let (x, y) = (cell & 7, cell >> 3)
        var value = 0
        for bit in 0..<3 {
            let (xBit, yBit) = ((x >> bit) & 1, (y >> bit) & 1)
            value |= ((xBit ^ yBit) << 1 | yBit) << (2 * (2 - bit))
        }
        return (Float(value) + 0.5) / 64 - 0.5
    }

    /// Writes the palette and the indices of packed RGB `pixels` into a PAL8 picture.
    func apply(_ pixels: UnsafeRawBufferPointer, width: Int, height: Int, to frame: UnsafeMutablePointer<AVFrame>) {
        guard let indices = frame.pointee.data.0, let table = frame.pointee.data.1 else { return }
        table.withMemoryRebound(to: UInt32.self, capacity: 256) { entries in
            for index in 0..<256 {
                let color = index < colors.count ? colors[index].rounded(.toNearestOrEven) : .zero
                entries[index] = 0xff00_0000 | UInt32(color.x) << 16 | UInt32(color.y) << 8 | UInt32(color.z)
            }
        }
        let offsets = Self.pattern.map { Int(($0 * ditherSpread).rounded()) }
        let stride = Int(frame.pointee.linesize.0)
        for y in 0..<height {
            for x in 0..<width {
                let pixel = (y * width + x) * 3
                // Another cell of the pattern a channel: one common offset would dither along the grey axis only.
                func level(_ channel: Int) -> Int {
                    let offset = offsets[((y &+ 5 &* channel) & 7) << 3 | ((x &+ 3 &* channel) & 7)]
                    return min(max(Int(pixels[pixel + channel]) + offset, 0), 255) >> 2
                }
                indices[y * stride + x] = nearest[level(0) << 12 | level(1) << 6 | level(2)]
            }
        }
    }
}
