import CFFmpeg
import Failure
import Tensor

/// Turns a decoded still picture into packed RGB.
///
/// Grey, RGB and 8-bit YUV are taken apart here, because Pillow's results are to be met to the bit and FFmpeg's scaler
/// rounds differently; whatever else there is goes through the scaler.
struct PictureUnpacker {
    private let frame: UnsafeMutablePointer<AVFrame>
    private let description: UnsafePointer<AVPixFmtDescriptor>
    private let format: ImageFormat
    private let width: Int
    private let height: Int

    /// Throws `conversion_unsupported`.
    init(_ frame: UnsafeMutablePointer<AVFrame>, format: ImageFormat) throws(Failure) {
        guard let description = av_pix_fmt_desc_get(AVPixelFormat(rawValue: frame.pointee.format)) else {
            throw Failure("conversion_unsupported", "FFmpeg decoded to pixel format \(frame.pointee.format).")
        }
        self.frame = frame
        self.description = description
        self.format = format
        width = Int(frame.pointee.width)
        height = Int(frame.pointee.height)
    }

    private func isFlagged(_ flag: Int32) -> Bool { description.pointee.flags & UInt64(flag) != 0 }

    private var components: [AVComponentDescriptor] {
        let all = description.pointee.comp
        return Array([all.0, all.1, all.2, all.3].prefix(Int(description.pointee.nb_components)))
    }

    /// uint8 RGB `[H, W, 3]`; notes what is lost.
    func unpack(_ notes: inout [String]) throws(Failure) -> Tensor {
        let isPalette = isFlagged(AV_PIX_FMT_FLAG_PAL)
        if isFlagged(AV_PIX_FMT_FLAG_ALPHA), !isPalette { notes.append("transparency was dropped") }
        if let depth = components.first?.depth, depth > 8 { notes.append("\(depth)-bit samples were cut to 8 bits") }
        var result = Tensor(uninitialized: [height, width, 3], dtype: .uint8)
        let target = result.writeAddress().assumingMemoryBound(to: UInt8.self)
        let isGrey = description.pointee.nb_components <= 2
        if isPalette {
            unpackPalette(target)
        } else if isFlagged(AV_PIX_FMT_FLAG_BITSTREAM) {
            guard isGrey, components.first?.depth == 1 else { return try scaled() }
            unpackBits(target)
        } else if isFlagged(AV_PIX_FMT_FLAG_FLOAT) {
            return try scaled()
        } else if isGrey || isFlagged(AV_PIX_FMT_FLAG_RGB) {
            unpackSamples(target, isGrey: isGrey)
        } else if let conversion = YUVConversion(frame, components, format, description) {
            conversion.convert(into: target)
        } else {
            return try scaled()
        }
        return result
    }

    private func plane(_ index: Int) -> UnsafeMutablePointer<UInt8>? {
        let data = frame.pointee.data
        return [data.0, data.1, data.2, data.3][index]
    }

    private func lineSize(_ index: Int) -> Int {
        let sizes = frame.pointee.linesize
        return Int([sizes.0, sizes.1, sizes.2, sizes.3][index])
    }

    private func unpackPalette(_ target: UnsafeMutablePointer<UInt8>) {
        guard let indices = plane(0), let entries = plane(1) else { return }
        let palette = UnsafeRawPointer(entries)
        var place = 0
        for y in 0..<height {
            let row = indices + y * lineSize(0)
            for x in 0..<width {
                let color = palette.loadUnaligned(fromByteOffset: Int(row[x]) * 4, as: UInt32.self)
                target[place] = UInt8(truncatingIfNeeded: color >> 16)
                target[place + 1] = UInt8(truncatingIfNeeded: color >> 8)
                target[place + 2] = UInt8(truncatingIfNeeded: color)
                place += 3
            }
        }
    }

    /// One bit a pixel, the highest bit first.
    private func unpackBits(_ target: UnsafeMutablePointer<UInt8>) {
        guard let bits = plane(0) else { return }
        let inverted: UInt8 = frame.pointee.format == AV_PIX_FMT_MONOWHITE.rawValue ? 0xFF : 0
        let stride = lineSize(0)
        for y in 0..<height {
            for x in 0..<width {
                let isSet = ((bits[y * stride + x >> 3] ^ inverted) >> UInt8(7 - x & 7)) & 1 == 1
                let place = (y * width + x) * 3
                for channel in 0..<3 { target[place + channel] = isSet ? 255 : 0 }
            }
        }
    }

    /// Grey or RGB samples of 1 to 16 bits, packed or planar. The high bits are kept: of 16 bits the upper byte.
    private func unpackSamples(_ target: UnsafeMutablePointer<UInt8>, isGrey: Bool) {
        let isBigEndian = isFlagged(AV_PIX_FMT_FLAG_BE)
        let isLimited = isGrey && frame.pointee.color_range == AVCOL_RANGE_MPEG
        for channel in 0..<3 {
            let component = components[isGrey ? 0 : channel]
            guard let base = plane(Int(component.plane)) else { return }
            let (step, depth) = (Int(component.step), Int(component.depth))
            let stride = lineSize(Int(component.plane))
            let isWide = depth + Int(component.shift) > 8
            let mask = 1 << depth - 1
            for y in 0..<height {
                var source = base + y * stride + Int(component.offset)
                var output = target + y * width * 3 + channel
                for _ in 0..<width {
                    var value = Int(source[0])
                    if isWide {
                        value = isBigEndian ? value << 8 | Int(source[1]) : Int(source[1]) << 8 | value
                    }
                    value = (value >> Int(component.shift)) & mask
                    var level = depth >= 8 ? value >> (depth - 8) : value * 255 / mask
                    if isLimited { level = min(max(((level - 16) * 255 + 109) / 219, 0), 255) }
                    output[0] = UInt8(truncatingIfNeeded: level)
                    source += step
                    output += 3
                }
            }
        }
    }

    private func scaled() throws(Failure) -> Tensor {
        let converter = try FrameConverter(frame)
        return try converter.converted(frame)
    }
}
