import Foundation
import Media
import Tensor
import Testing

/// A temporary folder, removed at the end of `body`.
func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appending(path: "media-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder)
}

/// Smooth colours that move: `[count, height, width, 3]`.
func movingGradient(count: Int, width: Int, height: Int) -> Tensor {
    var bytes: [UInt8] = []
    for t in 0..<count {
        for y in 0..<height {
            for x in 0..<width {
                bytes.append(UInt8(truncatingIfNeeded: (x * 255) / width))
                bytes.append(UInt8(truncatingIfNeeded: (y * 255) / height))
                bytes.append(UInt8(truncatingIfNeeded: 40 + t * 8))
            }
        }
    }
    return Tensor(bytes: bytes).reshaped([count, height, width, 3])
}

extension Tensor {
    var bytes: [UInt8] { withUnsafeBytes { Array($0) } }
}

/// Peak signal-to-noise ratio in dB of two 8-bit tensors.
func signalToNoise(_ first: Tensor, _ second: Tensor) -> Double {
    guard first.shape == second.shape else { return 0 }
    let error = zip(first.bytes, second.bytes).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
    return error == 0 ? .infinity : 10 * log10(255 * 255 * Double(first.count) / error)
}

/// What the `ffprobe` program says of a file.
struct FFProbe: Decodable {
    struct Stream: Decodable {
        var codec_name: String
        var width: Int
        var height: Int
        var pix_fmt: String
        var r_frame_rate: String
        var avg_frame_rate: String
        var nb_read_frames: String
        var nb_read_packets: String
        var color_space: String?
        var color_range: String?
        var color_primaries: String?
    }
    struct Format: Decodable {
        var duration: String
        var tags: [String: String]?
    }
    var streams: [Stream]
    var format: Format

    init(path: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "ffprobe", "-v", "error", "-count_frames", "-count_packets", "-show_streams", "-show_format", "-of", "json",
            "file:" + path,
        ]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        self = try JSONDecoder().decode(FFProbe.self, from: bytes)
    }

    /// A tag, whatever the case of its key.
    func tag(_ key: String) -> String? { format.tags?.first { $0.key.lowercased() == key }?.value }
}
