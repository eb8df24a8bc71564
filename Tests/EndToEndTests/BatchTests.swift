import Foundation
import Testing

extension EndToEnd {
    @Suite("Many videos from one command")
    struct BatchTests {
        @Test("a batch makes what is missing, and a picture of all", .timeLimit(.minutes(3)))
        func resumes() async throws {
            let folder = try TemporaryFolder(), prompts = folder.file("prompts.txt"), videos = folder.file("videos")
            try Data("# two\nthe sun rising over green hills\nsnow at night\n".utf8)
                .write(to: URL(fileURLWithPath: prompts))
            let arguments = [
                "--prompts-file", prompts, "--seeds", "1..2", "--output-directory", videos, "--num-frames", "9",
                "--num-inference-steps", "4", "--container", "mkv",
            ]
            try await generate(arguments, in: folder)
            let names = [
                "0001-the-sun-rising-over-green-hills-s1.mkv", "0001-the-sun-rising-over-green-hills-s2.mkv",
                "0002-snow-at-night-s1.mkv", "0002-snow-at-night-s2.mkv", "contact-sheet.png",
            ]
            #expect(try FileManager.default.contentsOfDirectory(atPath: videos).sorted() == names)
            let hashes = try await MediaFile.frameHashes("\(videos)/\(names[0])", in: folder)
            #expect(hashes.count == 9)
            #expect(try await MediaFile.frameHashes("\(videos)/\(names[1])", in: folder) != hashes)

            try FileManager.default.removeItem(atPath: "\(videos)/\(names[0])")
            let kept = "\(videos)/\(names[1])"
            let before = try FileManager.default.attributesOfItem(atPath: kept)[.modificationDate] as? Date
            try await generate(arguments, in: folder)
            #expect(try await MediaFile.frameHashes("\(videos)/\(names[0])", in: folder) == hashes)
            #expect(try FileManager.default.attributesOfItem(atPath: kept)[.modificationDate] as? Date == before)
        }
    }
}
