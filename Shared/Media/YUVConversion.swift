import CFFmpeg

/// 8-bit planar YUV to RGB with the triangle filter for halved chroma.
///
/// JPEG follows libjpeg-turbo (`jdsample.c`, `jdcolor.c`), WebP libwebp (`upsampling.c`, `yuv.h`), both to the bit. AVIF
/// takes the matrix and range of the file and rounds once.
struct YUVConversion {
    private struct Plane {
        var base: UnsafePointer<UInt8>
        var stride: Int
        var width: Int
        var height: Int
    }

    private let planes: [Plane]
    private let format: ImageFormat
    private let tables: YUVTables
    private let halvesWidth: Bool
    private let halvesHeight: Bool

    /// Nil for layouts that this does not know: chroma of a quarter, interleaved planes, other depths.
    init?(
        _ frame: UnsafeMutablePointer<AVFrame>, _ components: [AVComponentDescriptor], _ format: ImageFormat,
        _ description: UnsafePointer<AVPixFmtDescriptor>
    ) {
        let (wide, high) = (description.pointee.log2_chroma_w, description.pointee.log2_chroma_h)
        guard wide <= 1, high <= 1, components.count >= 3, let tables = YUVTables(frame, format) else { return nil }
        let data = [frame.pointee.data.0, frame.pointee.data.1, frame.pointee.data.2]
        let sizes = [frame.pointee.linesize.0, frame.pointee.linesize.1, frame.pointee.linesize.2]
        var planes: [Plane] = []
        for (index, component) in components.prefix(3).enumerated() {
            guard component.depth == 8, component.step == 1, Int(component.plane) == index, let base = data[index]
            else { return nil }
            let (width, height) = (Int(frame.pointee.width), Int(frame.pointee.height))
            planes.append(
                Plane(
                    base: UnsafePointer(base), stride: Int(sizes[index]),
                    width: index == 0 || wide == 0 ? width : (width + 1) / 2,
                    height: index == 0 || high == 0 ? height : (height + 1) / 2))
        }
        self.planes = planes
        self.format = format
        self.tables = tables
        halvesWidth = wide == 1
        halvesHeight = high == 1
    }

    func convert(into target: UnsafeMutablePointer<UInt8>) {
        let luma = planes[0]
        // One sample more for the odd last column.
        var first = [UInt8](repeating: 0, count: luma.width + 1)
        var second = first
        var sums = [Int32](repeating: 0, count: planes[1].width)
        for y in 0..<luma.height {
            chromaRow(planes[1], y, &sums, &first)
            chromaRow(planes[2], y, &sums, &second)
            tables.convert(
                luma: luma.base + y * luma.stride, first: first, second: second, count: luma.width,
                into: target + y * luma.width * 3)
        }
    }

    /// The chroma of row `y` at full width.
    private func chromaRow(_ plane: Plane, _ y: Int, _ sums: inout [Int32], _ row: inout [UInt8]) {
        // libjpeg does not smooth what is at most two samples wide.
        let isTiny = format == .jpeg && halvesWidth && plane.width <= 2
        let near = plane.base + (halvesHeight ? y >> 1 : y) * plane.stride
        let smoothsHeight = halvesHeight && !isTiny
        let count = plane.width
        if smoothsHeight {
            let other = min(max((y >> 1) + (y & 1 == 0 ? -1 : 1), 0), plane.height - 1)
            let far = plane.base + other * plane.stride
            for x in 0..<count { sums[x] = 3 * Int32(near[x]) + Int32(far[x]) }
        } else {
            for x in 0..<count { sums[x] = Int32(near[x]) }
        }
        guard halvesWidth else {
            let bias: Int32 = y & 1 == 0 ? 1 : 2
            for x in 0..<count { row[x] = UInt8(truncatingIfNeeded: smoothsHeight ? (sums[x] + bias) >> 2 : sums[x]) }
            return
        }
        guard !isTiny else {
            for x in row.indices { row[x] = UInt8(truncatingIfNeeded: sums[min(x >> 1, count - 1)]) }
            return
        }
        let shift: Int32 = smoothsHeight ? 4 : 2
        let (left, right): (Int32, Int32) = smoothsHeight ? (8, format == .jpeg ? 7 : 8) : (1, 2)
        row.withUnsafeMutableBufferPointer { row in
            for x in 0..<count {
                let center = 3 * sums[x]
                row[2 * x] = UInt8(truncatingIfNeeded: (center + sums[max(x - 1, 0)] + left) >> shift)
                if 2 * x + 1 < row.count {
                    row[2 * x + 1] = UInt8(truncatingIfNeeded: (center + sums[min(x + 1, count - 1)] + right) >> shift)
                }
            }
        }
    }
}

/// What each value of Y, U and V adds to R, G and B, in fixed point.
struct YUVTables {
    private var luma = [Int32](repeating: 0, count: 256)
    private var redOfV = [Int32](repeating: 0, count: 256)
    private var greenOfU = [Int32](repeating: 0, count: 256)
    private var greenOfV = [Int32](repeating: 0, count: 256)
    private var blueOfU = [Int32](repeating: 0, count: 256)
    private var shift: Int32 = 16

    /// Nil for matrices that are not linear.
    init?(_ frame: UnsafeMutablePointer<AVFrame>, _ format: ImageFormat) {
        switch format {
        case .jpeg: fillAsJPEG()
        case .webp: fillAsWebP()
        default:
            let isFull = frame.pointee.color_range == AVCOL_RANGE_JPEG
            switch frame.pointee.colorspace {
            case AVCOL_SPC_BT709: fill(red: 0.2126, blue: 0.0722, isFull: isFull)
            case AVCOL_SPC_BT2020_NCL: fill(red: 0.2627, blue: 0.0593, isFull: isFull)
            case AVCOL_SPC_UNSPECIFIED, AVCOL_SPC_BT470BG, AVCOL_SPC_SMPTE170M:
                fill(red: 0.299, blue: 0.114, isFull: isFull)
            default: return nil
            }
        }
    }

    private mutating func fillAsJPEG() {
        for value in 0..<256 {
            let chroma = Int32(value) - 128
            luma[value] = Int32(value) << 16
            redOfV[value] = 91881 * chroma + 32768
            greenOfU[value] = -22554 * chroma + 32768
            greenOfV[value] = -46802 * chroma
            blueOfU[value] = 116130 * chroma + 32768
        }
    }

    private mutating func fillAsWebP() {
        shift = 6
        for value in 0..<256 {
            let level = Int32(value)
            luma[value] = (level * 19077) >> 8
            redOfV[value] = (level * 26149) >> 8 - 14234
            greenOfU[value] = 8708 - (level * 6419) >> 8
            greenOfV[value] = -((level * 13320) >> 8)
            blueOfU[value] = (level * 33050) >> 8 - 17685
        }
    }

    private mutating func fill(red: Double, blue: Double, isFull: Bool) {
        let green = 1 - red - blue
        let one = 65536.0
        let lumaScale = isFull ? 1 : 255.0 / 219, chromaScale = isFull ? 1 : 255.0 / 224
        for value in 0..<256 {
            let chroma = Double(value - 128) * chromaScale
            func fixed(_ number: Double) -> Int32 { Int32((number * one).rounded()) }
            luma[value] = fixed((Double(value) - (isFull ? 0 : 16)) * lumaScale) + 32768
            redOfV[value] = fixed(2 * (1 - red) * chroma)
            blueOfU[value] = fixed(2 * (1 - blue) * chroma)
            greenOfU[value] = fixed(-2 * blue * (1 - blue) / green * chroma)
            greenOfV[value] = fixed(-2 * red * (1 - red) / green * chroma)
        }
    }

    func convert(
        luma row: UnsafePointer<UInt8>, first: [UInt8], second: [UInt8], count: Int,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        func level(_ sum: Int32) -> UInt8 { UInt8(truncatingIfNeeded: min(max(sum >> shift, 0), 255)) }
        var output = target
        for x in 0..<count {
            let y = luma[Int(row[x])]
            let (u, v) = (Int(first[x]), Int(second[x]))
            output[0] = level(y + redOfV[v])
            output[1] = level(y + greenOfU[u] + greenOfV[v])
            output[2] = level(y + blueOfU[u])
            output += 3
        }
    }
}
