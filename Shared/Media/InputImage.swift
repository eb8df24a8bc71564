package import Failure
package import Tensor

/// A still picture from outside, decoded and upright, as Pillow's `ImageOps.exif_transpose(image).convert("RGB")`
/// would give it (docs/media-inputs.md lists where the two differ).
package struct InputImage: Sendable {
    /// uint8 RGB `[H, W, 3]`.
    package let pixels: Tensor
    package let format: ImageFormat
    /// What was changed on the way and may surprise: dropped transparency, bits cut off, turned.
    package let notes: [String]

    package var width: Int { pixels.shape[1] }
    package var height: Int { pixels.shape[0] }

    /// Decodes a PNG, JPEG, WebP, AVIF, GIF (its first frame), BMP or TIFF file of any pixel type.
    ///
    /// - Throws: `input_image_too_many_bytes`, `input_image_too_many_pixels`, `input_image_format_unknown`,
    ///   `input_image_format_unsupported`, `input_image_corrupt`, `decoder_missing`.
    package init(bytes: [UInt8], limits: InputLimits = InputLimits()) throws(Failure) {
        try self.init(file: Tensor(bytes: bytes), limits: limits)
    }

    /// As `init(bytes:)`, of a file that lies in a uint8 tensor.
    package init(file: Tensor, limits: InputLimits = InputLimits()) throws(Failure) {
        guard file.byteCount <= limits.imageBytes else {
            throw Failure(
                "input_image_too_many_bytes",
                "The image has \(file.byteCount) bytes, more than the \(limits.imageBytes) allowed.", field: "image",
                remedy: "Send a smaller or more compressed file.")
        }
        let view = ByteView(UnsafeRawBufferPointer(start: file.readAddress, count: file.byteCount))
        // The view is read inside `decode` only, while `file` is alive.
        defer { withExtendedLifetime(file) {} }
        let header = try ImageHeader.read(view)
        if let size = header.size { try Self.check(size.width, size.height, limits) }
        let frame = try ImageDecoder.decode(file, view, header, limits)
        try Self.check(frame.width, frame.height, limits)
        var notes: [String] = []
        let stored = try PictureUnpacker(frame.frame, format: header.format).unpack(&notes)
        if header.orientation != .upright {
            notes.append("turned upright from EXIF orientation \(header.orientation.rawValue)")
        }
        pixels = header.orientation.upright(stored)
        format = header.format
        self.notes = notes
    }

    private static func check(_ width: Int, _ height: Int, _ limits: InputLimits) throws(Failure) {
        guard width > 0, height > 0 else { throw ImageHeader.corrupt("The image has \(width)×\(height) pixels.") }
        guard width <= limits.side, height <= limits.side, width * height <= limits.pixels else {
            throw Failure(
                "input_image_too_many_pixels",
                "The image has \(width)×\(height) pixels, more than the \(limits.pixels) (a side: \(limits.side)) "
                    + "allowed.",
                field: "image", remedy: "Make it smaller; the model resizes it anyway.")
        }
    }
}
