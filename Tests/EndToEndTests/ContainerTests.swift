import Foundation
import Testing

extension EndToEnd {
    @Suite("Files that other programs agree about")
    struct ContainerTests {
        struct Container: Sendable, CustomTestStringConvertible {
            let suffix: String
            let codec: String
            /// Whether the format has a place for text.
            let hasTags: Bool

            var testDescription: String { suffix }
        }

        static let containers = [
            Container(suffix: "mp4", codec: "h264", hasTags: true),
            Container(suffix: "webm", codec: "vp9", hasTags: true),
            Container(suffix: "gif", codec: "gif", hasTags: false),
            Container(suffix: "mkv", codec: "ffv1", hasTags: true),
        ]

        @Test(
            "ffprobe finds the codec, size, rate, frames, duration and provenance we meant",
            .timeLimit(.minutes(2)), arguments: containers)
        func probe(container: Container) async throws {
            let folder = try TemporaryFolder()
            let path = folder.file("clip.\(container.suffix)")
            try await generate([EndToEnd.prompt, "--fps", "10", "--output", path] + EndToEnd.small, in: folder)
            let file = try await MediaFile(probing: path, in: folder)
            #expect(file.codec == container.codec)
            #expect(file.width == 96 && file.height == 96)
            #expect(file.framesPerSecond == 10)
            #expect(file.frames == 9)
            #expect(abs(file.seconds - 0.9) < 0.011, "\(file.seconds) s")
            if container.hasTags {
                #expect(file.tags["title"] == EndToEnd.prompt)
                let comment = try #require(file.tags["comment"], "\(file.tags)")
                #expect(comment.contains("\"seed\":7"))
                let model = /"model":\{"digest":"[0-9a-f]{64}"/
                #expect(comment.firstMatch(of: model) != nil, "\(comment)")
            }
            #expect(FileManager.default.fileExists(atPath: folder.file("clip.png")))
        }
    }
}
