import Foundation
import Testing

/// A video file as ffprobe sees it, decoding every frame.
struct MediaFile: Sendable {
    let codec: String
    let width: Int
    let height: Int
    let framesPerSecond: Double
    let frames: Int
    let seconds: Double
    /// Lower-cased tag names of the container and its stream.
    let tags: [String: String]

    init(probing path: String, in folder: TemporaryFolder) async throws {
        let ffprobe = try #require(Executables.system("ffprobe"), "ffprobe is not installed: run `make setup`")
        let result = try await Subprocess(
            ffprobe,
            ["-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json", path], in: folder,
            name: "ffprobe"
        ).result(timeout: .seconds(60))
        try #require(result.status == 0, "ffprobe refuses \(path): \(result.errors)")
        let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        try #require(report.streams.count == 1, "\(report.streams.count) streams in \(path)")
        let stream = report.streams[0]
        codec = stream.codec_name
        width = stream.width
        height = stream.height
        let rate = stream.r_frame_rate.split(separator: "/").compactMap { Double($0) }
        framesPerSecond = rate.count == 2 ? rate[0] / rate[1] : 0
        frames = Int(stream.nb_read_frames) ?? -1
        seconds = Double(report.format.duration ?? "") ?? -1
        let all = (report.format.tags ?? [:]).merging(stream.tags ?? [:]) { container, _ in container }
        tags = Dictionary(all.map { ($0.key.lowercased(), $0.value) }) { first, _ in first }
    }

    // ffprobe's own names.
    private struct Report: Decodable {
        struct Stream: Decodable {
            let codec_name: String
            let width: Int
            let height: Int
            let r_frame_rate: String
            let nb_read_frames: String
            let tags: [String: String]?
        }

        struct Format: Decodable {
            let duration: String?
            let tags: [String: String]?
        }

        let streams: [Stream]
        let format: Format
    }

    /// Peak signal-to-noise ratio of all frames of two files, in decibels; infinite where they are equal.
    static func decibels(_ first: String, _ second: String, in folder: TemporaryFolder) async throws -> Double {
        let ffmpeg = try #require(Executables.system("ffmpeg"), "ffmpeg is not installed: run `make setup`")
        let result = try await Subprocess(
            ffmpeg, ["-i", first, "-i", second, "-lavfi", "psnr", "-f", "null", "-"], in: folder, name: "ffmpeg"
        ).result(timeout: .seconds(60))
        try #require(result.status == 0, "ffmpeg refuses \(first) or \(second): \(result.errors)")
        let average = result.errors.components(separatedBy: "average:").last?.split(separator: " ").first
        return try #require(average.flatMap { Double($0) }, "\(result.errors)")
    }

    /// MD5 of every decoded frame, which does not depend on timestamps or tags: equal lists are equal pictures.
    static func frameHashes(_ path: String, in folder: TemporaryFolder) async throws -> [String] {
        let ffmpeg = try #require(Executables.system("ffmpeg"), "ffmpeg is not installed: run `make setup`")
        let result = try await Subprocess(
            ffmpeg, ["-v", "error", "-i", path, "-f", "framemd5", "-"], in: folder, name: "ffmpeg"
        ).result(timeout: .seconds(60))
        try #require(result.status == 0, "ffmpeg refuses \(path): \(result.errors)")
        let lines = result.output.split(separator: "\n").filter { !$0.hasPrefix("#") }
        return lines.compactMap { $0.split(separator: " ").last.map(String.init) }
    }
}
