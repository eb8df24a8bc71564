package import Failure
package import Tensor

/// Finds `LatentColors` by least squares: latents on one side, the mean colour of the pixels that each stands for on the
/// other.
package struct LatentColorFit: Sendable {
    /// Pixels per latent, and frames per latent after the first, which stands for one.
    package struct Ratios: Sendable {
        package var space: Int
        package var time: Int

        package init(space: Int, time: Int) {
            self.space = space
            self.time = time
        }
    }

    /// Latents seen so far.
    package private(set) var count = 0
    private let channels: Int
    /// Sums of products of the latents, a 1 after the last of them, with each other and with the colours.
    private var products: [[Double]]
    private var colors: [[Double]]
    private var squares = [0.0, 0.0, 0.0]

    package init(channels: Int) {
        self.channels = channels
        products = Array(repeating: Array(repeating: 0, count: channels + 1), count: channels + 1)
        colors = Array(repeating: [0, 0, 0], count: channels + 1)
    }

    /// Adds a clip.
    ///
    /// - Parameters:
    ///   - latents: `[F, C, h, w]` float32, scaled as the denoiser has them.
    ///   - frames: the same clip as uint8 RGB `[T, H, W, 3]`.
    ///
    /// Fails with `preview_fit_failed` when one is not the latents of the other.
    package mutating func add(latents: Tensor, frames: Tensor, ratios: Ratios) throws(Failure) {
        let (count, height, width) = (latents.shape[0], latents.shape[2], latents.shape[3])
        let expected = [(count - 1) * ratios.time + 1, height * ratios.space, width * ratios.space, 3]
        guard latents.dtype == .float32, latents.shape[1] == channels, frames.dtype == .uint8, frames.shape == expected
        else {
            throw Failure(
                "preview_fit_failed",
                "Frames \(frames.shape) do not belong to latents \(latents.shape); they need \(expected).")
        }
        let area = height * width
        latents.withUnsafeBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)
            for frame in 0..<count {
                let span = frame == 0 ? 0..<1 : ((frame - 1) * ratios.time + 1)..<(frame * ratios.time + 1)
                for place in 0..<area {
                    var row = (0..<channels).map { Double(values[(frame * channels + $0) * area + place]) }
                    row.append(1)
                    add(row, Self.color(of: frames, span, place / width, place % width, ratios.space))
                }
            }
        }
        self.count += count * area
    }

    private mutating func add(_ row: [Double], _ color: [Double]) {
        for left in 0...channels {
            for right in 0...left { products[left][right] += row[left] * row[right] }
            for part in 0..<3 { colors[left][part] += row[left] * color[part] }
        }
        for part in 0..<3 { squares[part] += color[part] * color[part] }
    }

    /// The mean colour, 0 … 1, of a block of pixels over some frames.
    private static func color(of frames: Tensor, _ span: Range<Int>, _ row: Int, _ column: Int, _ size: Int) -> [Double]
    {
        let (height, width) = (frames.shape[1], frames.shape[2])
        var sums = [0, 0, 0]
        frames.withUnsafeBytes { bytes in
            for frame in span {
                for y in row * size..<(row + 1) * size {
                    let start = ((frame * height + y) * width + column * size) * 3
                    for index in 0..<size * 3 { sums[index % 3] += Int(bytes[start + index]) }
                }
            }
        }
        let pixels = Double(span.count * size * size) * 255
        return sums.map { Double($0) / pixels }
    }

    /// The factors, and the share of the colours' variance that they explain (0 … 1).
    ///
    /// A little is added to the diagonal, so that a channel that never moved gets factors of zero. Fails with
    /// `preview_fit_failed` when there were too few latents.
    package func solved() throws(Failure) -> (colors: LatentColors, explained: Double) {
        let size = channels + 1
        guard count >= 4 * size else {
            throw Failure(
                "preview_fit_failed", "\(count) latents are too few for \(size) factors.",
                remedy: "Give larger or more clips.")
        }
        var matrix = products, right = colors
        for row in 0..<size {
            for column in row..<size { matrix[row][column] = products[column][row] }
        }
        let ridge = 1e-9 * (0..<channels).map { matrix[$0][$0] }.reduce(0, +) / Double(channels) + 1e-12
        for row in 0..<channels { matrix[row][row] += ridge }
        for pivot in 0..<size {
            guard matrix[pivot][pivot] > 1e-18 else {
                throw Failure("preview_fit_failed", "The latents are all alike.", remedy: "Give other clips.")
            }
            for row in (pivot + 1)..<max(size, pivot + 1) {
                let factor = matrix[row][pivot] / matrix[pivot][pivot]
                for column in pivot..<size { matrix[row][column] -= factor * matrix[pivot][column] }
                for part in 0..<3 { right[row][part] -= factor * right[pivot][part] }
            }
        }
        for row in (0..<size).reversed() {
            for part in 0..<3 {
                let known = ((row + 1)..<size).reduce(0.0) { $0 + matrix[row][$1] * right[$1][part] }
                right[row][part] = (right[row][part] - known) / matrix[row][row]
            }
        }
        let rounded = right.map { $0.map { ($0 * 1e5).rounded() / 1e5 } }
        let result = LatentColors(factors: Array(rounded[..<channels]), bias: rounded[channels])
        return (result, explained(right))
    }

    private func explained(_ solution: [[Double]]) -> Double {
        let number = products[channels][channels]
        var residual = 0.0, variance = 0.0
        for part in 0..<3 {
            let mean = colors[channels][part] / number
            variance += squares[part] - number * mean * mean
            residual += squares[part] - (0...channels).reduce(0.0) { $0 + solution[$1][part] * colors[$1][part] }
        }
        return variance > 0 ? max(0, 1 - residual / variance) : 0
    }
}
