package import Failure
package import Tensor

/// How a picture of other proportions becomes one of a wanted size.
package enum ImageFit: String, Sendable, Hashable, CaseIterable {
    /// Stretched to the size, proportions lost: what diffusers does.
    case stretch
    /// Scaled until it covers the size and cut to its middle, to the bit as Pillow's `ImageOps.fit`. The cut may lie
    /// between pixels, so that both sides lose the same.
    case cover
    /// Scaled until it fits inside, the longer way as `ImageOps.contain` rounds it, in the middle of black. Of an odd
    /// remainder the right or lower side gets the pixel more.
    case contain

    /// Pictures `[H, W, 3]` or `[T, H, W, 3]`, uint8 RGB, at `width` × `height`.
    /// Throws `frames_shape_invalid`, `picture_size_invalid`.
    package func fitted(
        _ pictures: Tensor, width: Int, height: Int, resampling: Resampling = .lanczos
    ) throws(Failure) -> Tensor {
        let (_, oldHeight, oldWidth) = try pictureExtents(pictures)
        switch self {
        case .stretch: return try resampling.resized(pictures, width: width, height: height)
        case .cover:
            let box = Self.middle(of: (oldWidth, oldHeight), proportions: (width, height))
            return try resampling.resized(pictures, width: width, height: height, box: box)
        case .contain:
            let inner = Self.largest((oldWidth, oldHeight), inside: (width, height))
            let picture = try resampling.resized(pictures, width: inner.width, height: inner.height)
            return Self.padded(picture, width: width, height: height)
        }
    }

    private typealias Extents = (width: Int, height: Int)

    /// The largest part of the wanted proportions in the middle, in Pillow's arithmetic.
    private static func middle(of old: Extents, proportions new: Extents) -> Resampling.Box {
        let (width, height) = (Double(old.width), Double(old.height))
        let oldRatio = width / height, newRatio = Double(new.width) / Double(new.height)
        var part = (width: width, height: height)
        if oldRatio > newRatio {
            part.width = newRatio * height
        } else if oldRatio < newRatio {
            part.height = width / newRatio
        }
        let left = (width - part.width) * 0.5, top = (height - part.height) * 0.5
        // Rounding must not carry the part over the border.
        return Resampling.Box(
            left: Float(max(left, 0)), top: Float(max(top, 0)), right: min(Float(left + part.width), Float(width)),
            bottom: min(Float(top + part.height), Float(height)))
    }

    /// The largest size of the old proportions inside the new size.
    private static func largest(_ old: Extents, inside new: Extents) -> Extents {
        let oldRatio = Double(old.width) / Double(old.height), newRatio = Double(new.width) / Double(new.height)
        func side(_ one: Int, _ other: Int, _ wanted: Int) -> Int {
            max(1, Int((Double(one) / Double(other) * Double(wanted)).rounded(.toNearestOrEven)))
        }
        if oldRatio > newRatio { return (new.width, side(old.height, old.width, new.width)) }
        if oldRatio < newRatio { return (side(old.width, old.height, new.height), new.height) }
        return new
    }

    private static func padded(_ pictures: Tensor, width: Int, height: Int) -> Tensor {
        let shape = pictures.shape
        let (innerHeight, innerWidth) = (shape[shape.count - 3], shape[shape.count - 2])
        if innerHeight == height, innerWidth == width { return pictures }
        let top = (height - innerHeight) / 2, left = (width - innerWidth) / 2
        var result = Tensor(zeros: Array(shape.dropLast(3)) + [height, width, 3], dtype: .uint8)
        let rows = pictures.count / (innerWidth * 3)
        result.withUnsafeMutableBytes { target in
            pictures.withUnsafeBytes { source in
                for row in 0..<rows {
                    let (picture, y) = row.quotientAndRemainder(dividingBy: innerHeight)
                    let begin = ((picture * height + top + y) * width + left) * 3
                    let bytes = UnsafeRawBufferPointer(rebasing: source[(row * innerWidth * 3)...])
                    UnsafeMutableRawBufferPointer(rebasing: target[begin...])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes.prefix(innerWidth * 3)))
                }
            }
        }
        return result
    }
}
