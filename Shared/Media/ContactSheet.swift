import CFFmpeg
package import Failure
package import Tensor

/// A picture of a video: evenly spaced frames in a grid, for the eye.
package enum ContactSheet {
    private static let gap = 4
    private static let background: UInt8 = 24

    /// Renders uint8 RGB frames `[T, H, W, 3]` as one picture `[h, w, 3]`, row by row, first and last frame included.
    ///
    /// - Parameters:
    ///   - columns: frames in a row; fewer when there are fewer frames.
    ///   - maximumFrames: frames shown at most.
    ///   - scale: size of a shown frame relative to the video, at most 4.
    /// - Throws: `frames_shape_invalid`, `contact_sheet_invalid`.
    package static func render(
        frames: Tensor, columns: Int = 4, maximumFrames: Int = 12, scale: Double = 1
    ) throws(Failure) -> Tensor {
        guard frames.dtype == .uint8, frames.shape.count == 4, frames.shape[3] == 3, frames.count > 0 else {
            throw Failure(
                "frames_shape_invalid", "Frames are uint8 [t, height, width, 3], not \(frames.dtype) \(frames.shape).",
                field: "frames")
        }
        guard columns >= 1, maximumFrames >= 1, scale > 0, scale <= 4 else {
            throw Failure(
                "contact_sheet_invalid",
                "A contact sheet of \(maximumFrames) frames in \(columns) columns at scale \(scale) cannot be made.",
                remedy: "Use at least one frame and column, and a scale above 0, at most 4.")
        }
        let (count, height, width) = (frames.shape[0], frames.shape[1], frames.shape[2])
        let shown = indices(count, maximumFrames)
        let tileHeight = max(1, Int((Double(height) * scale).rounded()))
        let tileWidth = max(1, Int((Double(width) * scale).rounded()))
        let across = min(columns, shown.count)
        let down = (shown.count + across - 1) / across
        let sheetWidth = across * (tileWidth + gap) + gap
        let sheetHeight = down * (tileHeight + gap) + gap
        var sheet = Tensor(uninitialized: [sheetHeight, sheetWidth, 3], dtype: .uint8)
        sheet.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: background) }
        for (place, index) in shown.enumerated() {
            let frame = frames.rows(index..<(index + 1)).reshaped([height, width, 3])
            let tile = try resized(frame, width: tileWidth, height: tileHeight)
            let top = gap + place / across * (tileHeight + gap)
            let left = gap + place % across * (tileWidth + gap)
            sheet.withUnsafeMutableBytes { target in
                tile.withUnsafeBytes { source in
                    for row in 0..<tileHeight {
                        let begin = ((top + row) * sheetWidth + left) * 3
                        UnsafeMutableRawBufferPointer(rebasing: target[begin..<(begin + tileWidth * 3)])
                            .copyMemory(
                                from: UnsafeRawBufferPointer(
                                    rebasing: source[(row * tileWidth * 3)...].prefix(tileWidth * 3)))
                    }
                }
            }
        }
        return sheet
    }

    /// `maximum` or fewer indices below `count`, evenly spaced from the first to the last.
    static func indices(_ count: Int, _ maximum: Int) -> [Int] {
        if count <= maximum { return Array(0..<count) }
        if maximum == 1 { return [count / 2] }
        return (0..<maximum).map { Int((Double($0) * Double(count - 1) / Double(maximum - 1)).rounded()) }
    }

    /// A picture `[H, W, 3]` at another size: area averaging when smaller, bicubic when larger.
    package static func resized(_ picture: Tensor, width: Int, height: Int) throws(Failure) -> Tensor {
        try requirePicture(picture)
        let (oldHeight, oldWidth) = (picture.shape[0], picture.shape[1])
        if oldHeight == height, oldWidth == width { return picture }
        let source = try PictureBuffer(width: oldWidth, height: oldHeight, format: AV_PIX_FMT_RGB24)
        let target = try PictureBuffer(width: width, height: height, format: AV_PIX_FMT_RGB24)
        picture.withUnsafeBytes { source.load($0) }
        try PictureConverter(
            from: (Int32(oldWidth), Int32(oldHeight), AV_PIX_FMT_RGB24),
            to: (Int32(width), Int32(height), AV_PIX_FMT_RGB24),
            area: width < oldWidth
        ).convert(source.frame, into: target.frame)
        var result = Tensor(uninitialized: [height, width, 3], dtype: .uint8)
        result.withUnsafeMutableBytes { target.store($0) }
        return result
    }
}
