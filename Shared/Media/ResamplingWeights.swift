import Glibc

/// What every sample of a resized row or column is made of, as Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`
/// compute it.
struct ResamplingWeights {
    private static let fractionBits: Int32 = 22

    private struct Window {
        var first: Int
        var count: Int
    }
    private let sourceCount: Int
    private let windows: [Window]
    /// `stride` weights a sample, the unused ones 0.
    private let weights: [Int32]
    private let stride: Int

    /// For `target` samples over the part `range` of `source` samples.
    init(_ filter: Resampling, from source: Int, in range: (Float, Float), to target: Int) {
        let scale = Double(range.1 - range.0) / Double(target)
        let stretch = max(scale, 1)
        let support = filter.support * stretch
        stride = Int(support.rounded(.up)) * 2 + 1
        sourceCount = source
        var windows: [Window] = []
        var weights = [Int32](repeating: 0, count: stride * target)
        for index in 0..<target {
            let center = Double(range.0) + (Double(index) + 0.5) * scale
            let first = max(Int(center - support + 0.5), 0)
            let count = max(min(Int(center + support + 0.5), source) - first, 0)
            let raw = (0..<count).map { filter.weight((Double($0 + first) - center + 0.5) * (1 / stretch)) }
            let sum = raw.reduce(0, +)
            for (place, value) in raw.enumerated() {
                let scaled = (sum != 0 ? value / sum : value) * Double(1 << Self.fractionBits)
                weights[index * stride + place] = Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
            }
            windows.append(Window(first: first, count: count))
        }
        self.windows = windows
        self.weights = weights
    }

    /// The samples that anything is made of.
    var usedRange: Range<Int> {
        let first = windows.reduce(sourceCount) { min($0, $1.first) }
        let end = windows.reduce(first) { max($0, $1.first + $1.count) }
        return first..<end
    }

    @inline(__always)
    private static func level(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: min(max(sum >> fractionBits, 0), 255))
    }

    /// `count` rows of packed RGB, each of the source's length, become rows of the target's length.
    func resampleRows(_ source: UnsafePointer<UInt8>, count: Int, into target: UnsafeMutablePointer<UInt8>) {
        let half: Int32 = 1 << (Self.fractionBits - 1)
        windows.withUnsafeBufferPointer { windows in
            weights.withUnsafeBufferPointer { weights in
                guard let table = weights.baseAddress else { return }
                for row in 0..<count {
                    let input = source + row &* sourceCount &* 3
                    var output = target + row &* windows.count &* 3
                    for index in 0..<windows.count {
                        let window = windows[index]
                        var pixel = input + window.first &* 3
                        let weight = table + index &* stride
                        var (red, green, blue) = (half, half, half)
                        for place in 0..<window.count {
                            red = red &+ Int32(pixel[0]) &* weight[place]
                            green = green &+ Int32(pixel[1]) &* weight[place]
                            blue = blue &+ Int32(pixel[2]) &* weight[place]
                            pixel += 3
                        }
                        output[0] = Self.level(red)
                        output[1] = Self.level(green)
                        output[2] = Self.level(blue)
                        output += 3
                    }
                }
            }
        }
    }

    /// Rows of `rowBytes` bytes, as many as the source has samples, become as many as the target has.
    func resampleColumns(
        _ source: UnsafePointer<UInt8>, rowBytes: Int, into target: UnsafeMutablePointer<UInt8>
    ) {
        let half: Int32 = 1 << (Self.fractionBits - 1)
        let sums = UnsafeMutablePointer<Int32>.allocate(capacity: rowBytes)
        defer { sums.deallocate() }
        windows.withUnsafeBufferPointer { windows in
            weights.withUnsafeBufferPointer { weights in
                for index in 0..<windows.count {
                    let window = windows[index]
                    sums.update(repeating: half, count: rowBytes)
                    for place in 0..<window.count {
                        let weight = weights[index &* stride &+ place]
                        let input = source + (window.first &+ place) &* rowBytes
                        for byte in 0..<rowBytes { sums[byte] = sums[byte] &+ Int32(input[byte]) &* weight }
                    }
                    let output = target + index &* rowBytes
                    for byte in 0..<rowBytes { output[byte] = Self.level(sums[byte]) }
                }
            }
        }
    }
}
