import Foundation
import Testing

extension EndToEnd {
    @Suite("Making a video again from its file")
    struct ReplayTests {
        private func replay(_ arguments: [String], in folder: TemporaryFolder) async throws -> CommandResult {
            try await run("zoetrope", ["replay"] + arguments, in: folder)
        }

        /// The file with `change` applied to its manifest, packets as they were.
        private func rewritten(
            _ path: String, as name: String, in folder: TemporaryFolder, _ change: (String) -> String
        ) async throws -> String {
            let ffmpeg = try #require(Executables.system("ffmpeg"), "ffmpeg is not installed: run `make setup`")
            let manifest = try #require(try await MediaFile(probing: path, in: folder).tags["comment"])
            let target = folder.file(name)
            let result = try await Subprocess(
                ffmpeg, ["-v", "error", "-i", path, "-c", "copy", "-metadata", "comment=\(change(manifest))", target],
                in: folder, name: "ffmpeg"
            ).result(timeout: .seconds(60))
            try #require(result.status == 0, "\(result.errors)")
            return target
        }

        @Test(
            "the manifest that ffprobe shows is enough to make the same file again, byte for byte",
            .timeLimit(.minutes(3)), arguments: ["mp4", "webm"])
        func identical(container: String) async throws {
            let folder = try TemporaryFolder(), path = folder.file("clip.\(container)")
            try await generate([EndToEnd.prompt, "--output", path] + EndToEnd.small, in: folder)
            let tags = try await MediaFile(probing: path, in: folder).tags
            #expect(tags["title"] == EndToEnd.prompt)
            let comment = Data(try #require(tags["comment"]).utf8)
            let manifest = try #require(try JSONSerialization.jsonObject(with: comment) as? [String: Any])
            #expect(manifest["manifest"] as? Int == 1)
            #expect((manifest["model"] as? [String: Any])?["digest"] as? String != "")
            #expect((manifest["frames_sha256"] as? String)?.count == 64)
            let arithmetic = try #require(manifest["arithmetic"] as? [String: [String: Any]])
            #expect(arithmetic.keys.sorted() == ["decode", "denoise", "encode"])

            let result = try await replay([path], in: folder)
            #expect(result.status == 0, "\(result.everything)")
            #expect(result.output.contains("bit-identical: the files are the same, byte for byte"))
            let again = folder.file("clip.replay.\(container)")
            #expect(FileManager.default.contentsEqual(atPath: path, andPath: again))

            let shown = try await replay(["--show", path], in: folder)
            #expect(shown.status == 0 && shown.output.contains("\"seed\" : 7"))
        }

        @Test("a manifest with another seed does not give the file's video, and that is said", .timeLimit(.minutes(3)))
        func otherSeed() async throws {
            let folder = try TemporaryFolder(), path = folder.file("clip.mp4")
            try await generate([EndToEnd.prompt, "--output", path] + EndToEnd.small, in: folder)
            let forged = try await rewritten(path, as: "forged.mp4", in: folder) {
                $0.replacing("\"seed\":7", with: "\"seed\":6")
            }
            let result = try await replay([forged, "--output", folder.file("other.mp4")], in: folder)
            #expect(result.status != 0 && result.everything.contains("replay_differs"))
            #expect(result.output.contains("not identical: the frames have SHA-256"))
            #expect(FileManager.default.fileExists(atPath: folder.file("other.mp4")))
        }

        @Test(
            "what a hostile manifest asks for is refused as in any request, and files without one are",
            .timeLimit(.minutes(3)))
        func hostile() async throws {
            let folder = try TemporaryFolder(), path = folder.file("clip.mp4")
            try await generate([EndToEnd.prompt, "--output", path] + EndToEnd.small, in: folder)
            let changes: [(code: String, change: (String) -> String)] = [
                ("size_too_large", { $0.replacing("\"width\":96", with: "\"width\":1048576") }),
                (
                    "num_inference_steps_out_of_range",
                    { $0.replacing("\"num_inference_steps\":5", with: "\"num_inference_steps\":1000000000") }
                ),
                ("manifest_newer", { $0.replacing("\"manifest\":1", with: "\"manifest\":9") }),
                ("manifest_invalid", { String($0.dropLast(9)) }),
                ("manifest_missing", { _ in "made with love" }),
            ]
            for (number, (code, change)) in changes.enumerated() {
                let forged = try await rewritten(path, as: "forged-\(number).mp4", in: folder, change)
                let result = try await replay([forged], in: folder)
                #expect(result.status != 0 && result.everything.contains(code), "\(code): \(result.everything)")
            }
            let missing = try await replay([folder.file("nothing.mp4")], in: folder)
            #expect(missing.status != 0 && missing.everything.contains("unreadable_media"))
        }

        @Test(
            "a video that an adapter made needs it again, by name and contents, and is then the same file",
            .timeLimit(.minutes(3)))
        func withAdapter() async throws {
            let folder = try TemporaryFolder(), shelf = try TemporaryFolder(), other = try TemporaryFolder()
            let path = folder.file("clip.mp4"), dusk = ParityTests.golden.path + "/loras/demo/dusk.safetensors"
            try FileManager.default.copyItem(atPath: dusk, toPath: shelf.file("dusk.safetensors"))
            try await generate(
                [EndToEnd.prompt, "--lora", "dusk:0.7", "--adapters", shelf.file(""), "--output", path]
                    + EndToEnd.small,
                in: folder)
            let plain = folder.file("plain.mp4")
            try await generate([EndToEnd.prompt, "--output", plain] + EndToEnd.small, in: folder)
            #expect(!FileManager.default.contentsEqual(atPath: path, andPath: plain), "the adapter acts")

            let result = try await replay([path, "--adapters", shelf.file("")], in: folder)
            #expect(result.status == 0, "\(result.everything)")
            #expect(result.output.contains("bit-identical: the files are the same, byte for byte"))

            let nowhere = try await replay([path], in: folder)
            #expect(nowhere.status != 0 && nowhere.everything.contains("replay_input_missing"))
            #expect(nowhere.everything.contains("adapter dusk (SHA-256 "))
            #expect(nowhere.everything.contains("with --adapters FOLDER"), "\(nowhere.everything)")
            let elsewhere = try await replay([path, "--adapters", other.file("")], in: folder)
            #expect(elsewhere.status != 0 && elsewhere.everything.contains("replay_input_missing"))
            #expect(elsewhere.everything.contains("Put the file there under this name"), "\(elsewhere.everything)")

            try await withCluster { cluster in
                let server = try await replay([path, "--server", cluster.server], in: folder)
                #expect(server.status != 0 && server.everything.contains("replay_input_missing"))
                #expect(server.everything.contains("adapters_unavailable") == false, "\(server.everything)")
                #expect(server.everything.contains("dusk (SHA-256 ") && server.everything.contains("--adapters"))
            }

            // The signs of the last thousand values turned: another adapter of the same shapes.
            var bytes = try Data(contentsOf: URL(fileURLWithPath: dusk))
            for index in stride(from: bytes.count - 1, to: bytes.count - 4000, by: -4) { bytes[index] ^= 0x80 }
            try bytes.write(to: URL(fileURLWithPath: other.file("dusk.safetensors")))
            let changed = try await replay(
                [path, "--adapters", other.file(""), "--output", folder.file("changed.mp4")], in: folder)
            #expect(changed.output.contains("an identical video cannot be expected"), "\(changed.everything)")
            #expect(
                changed.output.contains("adapter dusk: the one in ") && changed.output.contains("put that one there"))
            #expect(changed.output.contains("request.loras[0].digest"))
        }

        @Test(
            "a video that began with a clip needs it again, by digest, and a gateway can make it again",
            .timeLimit(.minutes(3)))
        func withInputs() async throws {
            let folder = try TemporaryFolder(), source = folder.file("source.mkv"), path = folder.file("clip.mp4")
            try await generate([EndToEnd.prompt, "--output", source] + EndToEnd.small, in: folder)
            try await generate(
                ["snow at night", "--video", source, "--output", path] + EndToEnd.small, in: folder)
            let missing = try await replay([path], in: folder)
            #expect(missing.status != 0 && missing.everything.contains("replay_input_missing"))
            #expect(missing.everything.contains("--video FILE"))
            try await withCluster { cluster in
                let result = try await replay([path, "--video", source, "--server", cluster.server], in: folder)
                #expect(result.status == 0, "\(result.everything)")
                #expect(result.output.contains("bit-identical"))
                let other = folder.file("other.mkv")
                try await generate(["a lighthouse in a storm", "--output", other] + EndToEnd.small, in: folder)
                let differing = try await replay(
                    [path, "--video", other, "--server", cluster.server, "--output", folder.file("x.mp4")], in: folder)
                #expect(differing.status != 0 && differing.output.contains("an identical video cannot be expected"))
            }
        }
    }
}
