import CFFmpeg
import Failure
import Synchronization

/// FFmpeg's own words about what went wrong, which its return codes leave out.
///
/// Its log is one per process, and so is this list: the last few error lines, whichever thread they came from. They
/// only ever make a failure's text longer.
enum FFmpegLog {
    private static let lines = Mutex<[String]>([])
    private static let isInstalled: Bool = {
        av_log_set_callback { context, level, format, arguments in
            guard level <= zt_log_level_error(), let format, let arguments else { return }
            var printsPrefix: Int32 = 1
            let line = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
                av_log_format_line2(context, level, format, arguments, buffer.baseAddress, 512, &printsPrefix)
                return buffer.baseAddress.map { String(cString: $0) } ?? ""
            }
            FFmpegLog.lines.withLock { lines in
                lines.append(line)
                if lines.count > 4 { lines.removeFirst() }
            }
        }
        return true
    }()

    /// Forgets earlier lines; call before an operation.
    static func begin() {
        guard isInstalled else { return }
        lines.withLock { $0.removeAll() }
    }

    /// What was logged since `begin`, on one line.
    static func recent() -> String {
        lines.withLock { lines in
            lines.map { String($0.unicodeScalars.map { $0.value < 32 ? " " : Character($0) }).trimmed }.joined(
                separator: "; ")
        }
    }
}

extension String {
    /// Without spaces at either end.
    fileprivate var trimmed: String {
        let body = drop { $0 == " " }
        return String(body.reversed().drop { $0 == " " }.reversed())
    }
}

/// A failure with FFmpeg's name for the error code and what it logged.
func mediaFailure(
    _ code: String, _ status: Int32, _ doing: String, field: String? = nil, remedy: String? = nil
) -> Failure {
    let reason = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
        av_strerror(status, buffer.baseAddress, 128)
        return buffer.baseAddress.map { String(cString: $0) } ?? ""
    }
    let log = FFmpegLog.recent()
    return Failure(
        code, "\(doing) failed: \(reason)." + (log.isEmpty ? "" : " FFmpeg says: \(log)"), field: field, remedy: remedy)
}

/// Builds an option dictionary, hands it to `body`, and frees what `body` left in it.
func withOptions<Result>(
    _ options: [String: String], _ body: (inout OpaquePointer?) throws(Failure) -> Result
) throws(Failure) -> Result {
    var dictionary: OpaquePointer?
    for (key, value) in options.sorted(by: { $0.key < $1.key }) { av_dict_set(&dictionary, key, value, 0) }
    defer { av_dict_free(&dictionary) }
    return try body(&dictionary)
}
