/// What is fed with hostile bytes. One input is one run; whatever a run throws is a finding.
///
/// `Tests/Fuzz/Main` gives these to libFuzzer in a build with AddressSanitizer and UndefinedBehaviorSanitizer,
/// `FuzzTests` runs the committed corpora and some mutations of them in the ordinary build.
package enum FuzzTarget: String, Sendable, CaseIterable {
    /// Control frames: prelude, protobuf and the values behind it.
    case envelope
    /// protobuf-c alone, in arenas of many sizes.
    case protobuf
    /// A script of messages for a data server: chunk assembly on the receiving side of PUT, credit on that of GET.
    case upload
    /// A script of answers to a data client: chunk assembly on the receiving side of GET.
    case download
    /// Files in safetensors format.
    case safetensors
    /// Bodies of `POST /v1/videos` on their way to a SUBMIT.
    case body

    /// Prepares what all runs of this target share.
    package func prepare() async throws -> any FuzzSubject {
        switch self {
        case .envelope: EnvelopeSubject()
        case .protobuf: ProtobufSubject()
        case .upload: try await UploadSubject()
        case .download: try DownloadSubject()
        case .safetensors: SafetensorsSubject()
        case .body: try BodySubject()
        }
    }
}

/// One prepared target.
package protocol FuzzSubject: Sendable {
    /// Feeds one input; inputs come one after the other.
    /// - Throws: `Finding`.
    func run(_ input: [UInt8]) async throws
    /// Frees what `prepare` made.
    func finish() async
}

extension FuzzSubject {
    package func finish() async {}
}

/// A promise that an input broke.
package struct Finding: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }

    static func require(_ condition: Bool, _ description: @autoclosure () -> String) throws {
        if !condition { throw Finding(description()) }
    }
}

/// Reads an input front to back; past its end everything is 0.
struct InputReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        position += 1
        return bytes[position - 1]
    }

    mutating func integer16() -> UInt16 { UInt16(byte()) | UInt16(byte()) << 8 }

    /// Mostly small, now and then at the edge of what the type holds.
    mutating func quantity() -> UInt64 {
        let kind = byte()
        switch kind {
        case 0..<128: return UInt64(kind)
        case 128..<224: return UInt64(integer16())
        case 224..<240: return UInt64(integer16()) << 20
        default: return UInt64.max >> UInt64(kind % 65) &+ UInt64(byte())
        }
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }

    mutating func rest() -> [UInt8] {
        defer { position = bytes.count }
        return Array(bytes[min(position, bytes.count)...])
    }
}
