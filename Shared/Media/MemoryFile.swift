import CFFmpeg
import Failure
import Glibc
import Tensor

/// A media file in memory, opened for reading.
///
/// Only the named demuxers and decoders may run, and no protocol: a file cannot make FFmpeg open another one.
final class MemoryFile {
    let context: UnsafeMutablePointer<AVFormatContext>
    private let input: UnsafeMutablePointer<AVIOContext>
    private let source: Unmanaged<MemorySource>

    /// `failure` makes an error of FFmpeg's status when no allowed demuxer knows the file.
    init(
        _ file: Tensor, formats: String, codecs: String, failure: (Int32) -> Failure
    ) throws(Failure) {
        let source = Unmanaged.passRetained(MemorySource(file))
        let bufferSize: Int32 = 1 << 15
        guard let buffer = av_malloc(Int(bufferSize)),
            let input = avio_alloc_context(
                buffer.assumingMemoryBound(to: UInt8.self), bufferSize, 0, source.toOpaque(), MemorySource.read, nil,
                MemorySource.seek)
        else {
            source.release()
            throw outOfMemory()
        }
        func release() {
            av_free(input.pointee.buffer)
            var freed: UnsafeMutablePointer<AVIOContext>? = input
            avio_context_free(&freed)
            source.release()
        }
        guard let unopened = avformat_alloc_context() else {
            release()
            throw outOfMemory()
        }
        unopened.pointee.pb = input
        unopened.pointee.flags |= AVFMT_FLAG_CUSTOM_IO
        var opened: UnsafeMutablePointer<AVFormatContext>? = unopened
        let options = ["format_whitelist": formats, "codec_whitelist": codecs, "protocol_whitelist": "none"]
        let status = try withOptions(options) { dictionary throws(Failure) in
            avformat_open_input(&opened, nil, nil, &dictionary)
        }
        guard status >= 0, let context = opened else {
            release()
            throw failure(status)
        }
        self.context = context
        self.input = input
        self.source = source
    }

    deinit {
        var context: UnsafeMutablePointer<AVFormatContext>? = context
        avformat_close_input(&context)
        av_free(input.pointee.buffer)
        var input: UnsafeMutablePointer<AVIOContext>? = input
        avio_context_free(&input)
        source.release()
    }
}

/// Bytes with a position, for FFmpeg's callbacks.
private final class MemorySource {
    private let file: Tensor
    private var position = 0

    init(_ file: Tensor) { self.file = file }

    static let read: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutablePointer<UInt8>?, Int32) -> Int32 = {
        opaque, target, wanted in
        guard let opaque, let target else { return zt_error_end_of_file() }
        let source = Unmanaged<MemorySource>.fromOpaque(opaque).takeUnretainedValue()
        let count = min(Int(wanted), source.file.byteCount - source.position)
        guard count > 0 else { return zt_error_end_of_file() }
        UnsafeMutableRawPointer(target).copyMemory(from: source.file.readAddress + source.position, byteCount: count)
        source.position += count
        return Int32(count)
    }

    static let seek: @convention(c) (UnsafeMutableRawPointer?, Int64, Int32) -> Int64 = { opaque, offset, whence in
        guard let opaque else { return -1 }
        let source = Unmanaged<MemorySource>.fromOpaque(opaque).takeUnretainedValue()
        let count = Int64(source.file.byteCount)
        let base: Int64
        switch whence & ~AVSEEK_FORCE {
        case AVSEEK_SIZE: return count
        case SEEK_SET: base = 0
        case SEEK_CUR: base = Int64(source.position)
        case SEEK_END: base = count
        default: return -1
        }
        let (target, overflows) = base.addingReportingOverflow(offset)
        guard !overflows, target >= 0, target <= count else { return -1 }
        source.position = Int(target)
        return target
    }
}
