import CFFmpeg
import Failure
import Tensor

/// One picture in FFmpeg's memory, aligned and padded as its assembly needs.
final class PictureBuffer {
    let frame: UnsafeMutablePointer<AVFrame>

    init(width: Int, height: Int, format: AVPixelFormat) throws(Failure) {
        guard let frame = av_frame_alloc() else { throw outOfMemory() }
        self.frame = frame
        frame.pointee.width = Int32(width)
        frame.pointee.height = Int32(height)
        frame.pointee.format = format.rawValue
        guard av_frame_get_buffer(frame, 0) >= 0 else { throw outOfMemory() }
    }

    deinit {
        var frame: UnsafeMutablePointer<AVFrame>? = frame
        av_frame_free(&frame)
    }

    /// Makes the picture writable again after an encoder kept a reference to it.
    func prepareForWriting() throws(Failure) {
        guard av_frame_make_writable(frame) >= 0 else { throw outOfMemory() }
    }

    /// Copies packed RGB bytes in.
    func load(_ bytes: UnsafeRawBufferPointer) {
        let rowBytes = Int(frame.pointee.width) * 3
        guard let target = frame.pointee.data.0, let source = bytes.baseAddress else { return }
        for row in 0..<Int(frame.pointee.height) {
            UnsafeMutableRawPointer(target + row * Int(frame.pointee.linesize.0))
                .copyMemory(from: source + row * rowBytes, byteCount: rowBytes)
        }
    }

    /// Copies packed RGB bytes out.
    func store(_ bytes: UnsafeMutableRawBufferPointer) {
        let rowBytes = Int(frame.pointee.width) * 3
        guard let source = frame.pointee.data.0, let target = bytes.baseAddress else { return }
        for row in 0..<Int(frame.pointee.height) {
            (target + row * rowBytes)
                .copyMemory(from: source + row * Int(frame.pointee.linesize.0), byteCount: rowBytes)
        }
    }
}

func outOfMemory() -> Failure {
    Failure("out_of_memory", "FFmpeg could not allocate a picture.", remedy: "Free memory or ask for a smaller video.")
}

/// Converts pictures between pixel formats and sizes.
final class PictureConverter {
    /// How YUV codes colours.
    struct Coding {
        var matrix: Int32 = SWS_CS_ITU709
        var isFullRange = false
    }
    private let context: OpaquePointer

    /// `coding` describes the YUV side, if either side is YUV; RGB is always full range.
    init(
        from source: (width: Int32, height: Int32, format: AVPixelFormat),
        to target: (width: Int32, height: Int32, format: AVPixelFormat), coding: Coding = Coding(), area: Bool = false
    ) throws(Failure) {
        let flags = (area ? SWS_AREA : SWS_BICUBIC) | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_FULL_CHR_H_INT
        guard
            let context = sws_getContext(
                source.width, source.height, source.format, target.width, target.height, target.format, flags, nil, nil,
                nil)
        else {
            throw Failure("conversion_unsupported", "FFmpeg cannot convert pixel format \(source.format.rawValue).")
        }
        self.context = context
        func range(_ format: AVPixelFormat) -> Int32 {
            let isRGB = av_pix_fmt_desc_get(format).map { $0.pointee.flags & UInt64(AV_PIX_FMT_FLAG_RGB) != 0 } ?? true
            return isRGB || coding.isFullRange ? 1 : 0
        }
        let table = sws_getCoefficients(coding.matrix)
        _ = sws_setColorspaceDetails(
            context, table, range(source.format), table, range(target.format), 0, 1 << 16, 1 << 16)
    }

    deinit { sws_freeContext(context) }

    func convert(_ source: UnsafeMutablePointer<AVFrame>, into target: UnsafeMutablePointer<AVFrame>) {
        func planes(_ frame: UnsafeMutablePointer<AVFrame>) -> [UnsafeMutablePointer<UInt8>?] {
            [frame.pointee.data.0, frame.pointee.data.1, frame.pointee.data.2, frame.pointee.data.3]
        }
        func strides(_ frame: UnsafeMutablePointer<AVFrame>) -> [Int32] {
            [frame.pointee.linesize.0, frame.pointee.linesize.1, frame.pointee.linesize.2, frame.pointee.linesize.3]
        }
        let sourcePlanes = planes(source).map { UnsafePointer($0) }
        _ = sws_scale(
            context, sourcePlanes, strides(source), 0, source.pointee.height, planes(target), strides(target))
    }
}

/// A uint8 RGB picture `[H, W, 3]`; anything else is `frames_shape_invalid`.
func requirePicture(_ tensor: Tensor) throws(Failure) {
    guard tensor.dtype == .uint8, tensor.shape.count == 3, tensor.shape[2] == 3, tensor.count > 0,
        tensor.shape.allSatisfy({ $0 <= 32_768 })
    else {
        throw Failure(
            "frames_shape_invalid", "A picture is uint8 [height, width, 3], not \(tensor.dtype) \(tensor.shape).",
            field: "frames")
    }
}
