package import Failure
import Glibc
package import Tensor

/// Changes the size of uint8 RGB pictures, to the bit as Pillow 13.0's `Image.resize` does.
///
/// Weights are normalised in double precision and rounded to 22 fractional bits; each pass rounds to 8 bits. Pillow 13
/// chooses the order of the passes, see `resized`.
package enum Resampling: String, Sendable, Hashable, CaseIterable {
    /// Windowed sinc with three lobes; what diffusers resizes conditioning pictures with.
    case lanczos
    /// Keys' cubic with a = −0.5.
    case bicubic

    /// The largest side of a result, in pixels.
    package static let maximumSide = 16_384

    /// A part of a picture in pixels, fractions allowed. Single precision, as in Pillow.
    struct Box {
        var left: Float
        var top: Float
        var right: Float
        var bottom: Float
    }

    /// Pictures `[H, W, 3]` or `[T, H, W, 3]` at another size, without regard to their proportions.
    ///
    /// A pass whose size does not change is left out. Rows come first, unless the height shrinks by more than twice
    /// as many pixels as the width does (`h − H > 2 (w − W)`, Pillow's pull request 9549); older Pillows always begin
    /// with rows. Throws `frames_shape_invalid`, `picture_size_invalid`.
    package func resized(_ pictures: Tensor, width: Int, height: Int) throws(Failure) -> Tensor {
        try resized(pictures, width: width, height: height, box: nil)
    }

    /// As `resized`, of the part in `box`; pixels beside the box still take part in sums near its border.
    func resized(_ pictures: Tensor, width: Int, height: Int, box: Box?) throws(Failure) -> Tensor {
        let (count, oldHeight, oldWidth) = try pictureExtents(pictures)
        try Self.check(width: width, height: height)
        let box = box ?? Box(left: 0, top: 0, right: Float(oldWidth), bottom: Float(oldHeight))
        let needsRows = width != oldWidth || box.left != 0 || box.right != Float(width)
        let needsColumns = height != oldHeight || box.top != 0 || box.bottom != Float(height)
        guard needsRows || needsColumns else { return pictures }

        let across = ResamplingWeights(self, from: oldWidth, in: (box.left, box.right), to: width)
        let down = ResamplingWeights(self, from: oldHeight, in: (box.top, box.bottom), to: height)
        let beginsWithColumns = height < oldHeight && oldHeight - height > 2 * (oldWidth - width)
        var result = Tensor(
            uninitialized: Array(pictures.shape.dropLast(3)) + [height, width, 3], dtype: .uint8)
        let target = result.writeAddress().assumingMemoryBound(to: UInt8.self)
        let source = pictures.readAddress.assumingMemoryBound(to: UInt8.self)
        withExtendedLifetime(pictures) {
            for index in 0..<count {
                let picture = source + index * oldHeight * oldWidth * 3
                let output = target + index * height * width * 3
                switch (needsRows, needsColumns) {
                case (true, false): across.resampleRows(picture, count: oldHeight, into: output)
                case (false, true): down.resampleColumns(picture, rowBytes: width * 3, into: output)
                default:
                    if beginsWithColumns {
                        withScratch(height * oldWidth * 3) { between in
                            down.resampleColumns(picture, rowBytes: oldWidth * 3, into: between)
                            across.resampleRows(between, count: height, into: output)
                        }
                    } else {
                        let rows = down.usedRange
                        withScratch(oldHeight * width * 3) { between in
                            across.resampleRows(
                                picture + rows.lowerBound * oldWidth * 3, count: rows.count,
                                into: between + rows.lowerBound * width * 3)
                            down.resampleColumns(between, rowBytes: width * 3, into: output)
                        }
                    }
                }
            }
        }
        return result
    }

    /// The filter's reach in source pixels when enlarging.
    var support: Double { self == .lanczos ? 3 : 2 }

    func weight(_ x: Double) -> Double {
        switch self {
        case .lanczos:
            guard -3 <= x, x < 3 else { return 0 }
            return Self.sinc(x) * Self.sinc(x / 3)
        case .bicubic:
            let (x, a) = (abs(x), -0.5)
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
        }
    }

    private static func sinc(_ x: Double) -> Double {
        if x == 0 { return 1 }
        let angle = x * Double.pi
        return sin(angle) / angle
    }

    private static func check(width: Int, height: Int) throws(Failure) {
        guard (1...maximumSide).contains(width), (1...maximumSide).contains(height) else {
            throw Failure(
                "picture_size_invalid", "A picture cannot be resized to \(width)×\(height) pixels.", field: "width",
                remedy: "Width and height go from 1 to \(maximumSide).")
        }
    }
}

/// Count, height and width of `[H, W, 3]` or `[T, H, W, 3]`; anything else is `frames_shape_invalid`.
func pictureExtents(_ pictures: Tensor) throws(Failure) -> (count: Int, height: Int, width: Int) {
    let shape = pictures.shape
    guard pictures.dtype == .uint8, shape.count == 3 || shape.count == 4, shape.last == 3, pictures.count > 0 else {
        throw Failure(
            "frames_shape_invalid",
            "Pictures are uint8 [height, width, 3] or [t, height, width, 3], not \(pictures.dtype) \(shape).",
            field: "frames")
    }
    return (shape.count == 4 ? shape[0] : 1, shape[shape.count - 3], shape[shape.count - 2])
}

private func withScratch(_ count: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Void) {
    let scratch = UnsafeMutablePointer<UInt8>.allocate(capacity: count)
    defer { scratch.deallocate() }
    body(scratch)
}
