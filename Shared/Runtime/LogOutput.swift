package import Logging
import FoundationEssentials
import Glibc

/// How log lines look on stderr.
package enum LogFormat: String, Sendable, CaseIterable {
    /// `12:03:04.123 info denoiser: step done job=… step=3`
    case text
    /// One JSON object a line: time, level, service, message and the metadata as fields.
    case json
}

/// Writes swift-log lines to stderr, one `write` a line so that lines of several processes do not mix.
package struct LogOutput: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel: Logger.Level
    private let label: String
    private let format: LogFormat

    package init(label: String, level: Logger.Level, format: LogFormat) {
        self.label = label
        logLevel = level
        self.format = format
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { _, new in new }
            .map { (key: $0.key, value: "\($0.value)") }
            .sorted { $0.key < $1.key }
        let line: String
        switch format {
        case .text:
            let tail = fields.map { " \($0.key)=\($0.value)" }.joined()
            line = "\(clock()) \(event.level) \(label): \(event.message)\(tail)\n"
        case .json:
            let pairs =
                [
                    ("time", timestamp()), ("level", "\(event.level)"), ("service", label),
                    ("message", "\(event.message)"),
                ]
                + fields.map { ($0.key, $0.value) }
            line = "{" + pairs.map { "\(quoted($0.0)):\(quoted($0.1))" }.joined(separator: ",") + "}\n"
        }
        let bytes = Array(line.utf8)
        _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    private func timestamp() -> String {
        Date().formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true))
    }

    private func clock() -> String { String(timestamp().drop { $0 != "T" }.dropFirst().prefix(12)) }

    private func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case let control where control.value < 0x20:
                let digits = String(control.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
