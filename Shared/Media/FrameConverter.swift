import CFFmpeg
import Failure
import Tensor

/// Converts decoded frames of one layout to packed RGB with FFmpeg's scaler, as its command line does.
final class FrameConverter {
    /// What a conversion depends on.
    struct Layout: Hashable {
        var width: Int32
        var height: Int32
        var format: Int32
        var matrix: UInt32
        var range: UInt32

        init(_ frame: UnsafeMutablePointer<AVFrame>) {
            width = frame.pointee.width
            height = frame.pointee.height
            format = frame.pointee.format
            matrix = frame.pointee.colorspace.rawValue
            range = frame.pointee.color_range.rawValue
        }
    }

    let layout: Layout
    private let converter: PictureConverter
    private let picture: PictureBuffer

    /// Throws `conversion_unsupported`.
    init(_ frame: UnsafeMutablePointer<AVFrame>) throws(Failure) {
        layout = Layout(frame)
        let format = AVPixelFormat(rawValue: layout.format)
        let fullRangeFormats = [
            AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUVJ411P,
        ]
        let coding = PictureConverter.Coding(
            matrix: Self.matrix(frame.pointee.colorspace),
            isFullRange: frame.pointee.color_range == AVCOL_RANGE_JPEG || fullRangeFormats.contains(format))
        let size = (layout.width, layout.height)
        converter = try PictureConverter(
            from: (size.0, size.1, format), to: (size.0, size.1, AV_PIX_FMT_RGB24), coding: coding)
        picture = try PictureBuffer(width: Int(size.0), height: Int(size.1), format: AV_PIX_FMT_RGB24)
    }

    /// The frame as uint8 RGB `[H, W, 3]`.
    func converted(_ frame: UnsafeMutablePointer<AVFrame>) throws(Failure) -> Tensor {
        try picture.prepareForWriting()
        converter.convert(frame, into: picture.frame)
        var result = Tensor(uninitialized: [Int(layout.height), Int(layout.width), 3], dtype: .uint8)
        result.withUnsafeMutableBytes { picture.store($0) }
        return result
    }

    /// Files that do not say count as BT.601, as on FFmpeg's command line.
    private static func matrix(_ space: AVColorSpace) -> Int32 {
        switch space {
        case AVCOL_SPC_BT709: SWS_CS_ITU709
        case AVCOL_SPC_BT2020_NCL, AVCOL_SPC_BT2020_CL: SWS_CS_BT2020
        case AVCOL_SPC_FCC: SWS_CS_FCC
        case AVCOL_SPC_SMPTE240M: SWS_CS_SMPTE240M
        default: SWS_CS_DEFAULT
        }
    }
}
