import Checkpoint
import Compute
import Failure
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite("The autoencoder's decoder")
struct AutoencoderTests {
    private func frames(_ decoder: AutoencoderKLDecoder, _ latents: Tensor) throws -> Tensor {
        var chunks: [Tensor] = []
        try decoder.decode(latents: latents) { chunk throws(Failure) in chunks.append(chunk) }
        return Tensor.concatenated(chunks)
    }

    @Test("frames equal those of diffusers in float32 for odd and even latent counts", arguments: [1, 2, 4, 5])
    func parity(count: Int) throws {
        let golden = try Golden("2b")
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let reference = try golden("decode.\(count).frames")
        let decoded = try frames(decoder, try golden("decode.\(count).latents"))
        #expect(decoded.shape == reference.shape)
        #expect(decoded.shape[0] == decoder.frameCount(latentFrames: count))
        #expect(maxAbsoluteDifference(decoded, reference) <= 1e-4)
    }

    @Test("caches that wait in a file give the same frames, and a folder that cannot hold them is refused")
    func cacheFile() throws {
        let golden = try Golden("2b"), latents = try golden("decode.5.latents")
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var chunks: [Tensor] = []
        try decoder.decode(latents: latents, cacheDirectory: folder.path) { chunk throws(Failure) in
            chunks.append(chunk)
            #expect((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) == [], "the file has a name")
        }
        #expect(chunks.count == 2)
        #expect(identical(Tensor.concatenated(chunks), try frames(decoder, latents)))
        #expect {
            try decoder.decode(latents: latents, cacheDirectory: folder.path + "/missing") { _ in }
        } throws: {
            ($0 as? Failure)?.code == "cache_file_unusable"
        }
    }

    @Test("the other checkpoints decode alike", arguments: ["5b", "1.5"])
    func otherCheckpoints(name: String) throws {
        let golden = try Golden(name)
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .float32)
        let decoded = try frames(decoder, try golden("decode.3.latents"))
        #expect(maxAbsoluteDifference(decoded, try golden("decode.3.frames")) <= 1e-4)
    }

    @Test("bfloat16 frames are within 40 dB of the reference", arguments: Golden.pipelines)
    func bfloat16(name: String) throws {
        let golden = try Golden(name)
        let decoder = try AutoencoderKLDecoder(folder: golden.folder, backend: testBackend(), dtype: .bfloat16)
        let count = name == "2b" ? 5 : 3
        let decoded = try frames(decoder, try golden("decode.\(count).latents"))
        let reference = try golden("decode.\(count).frames")
        for frame in 0..<decoded.shape[0] {
            let found = decibels(decoded.rows(frame..<(frame + 1)), reference.rows(frame..<(frame + 1)))
            #expect(found >= 40, "frame \(frame): \(found) dB")
        }
    }

    @Test(
        "frames come in the chunks of the reference, and progress counts them",
        arguments: [
            (1, [1]), (2, [8]), (3, [9]), (4, [8, 8]), (5, [9, 8]), (13, [9, 8, 8, 8, 8, 8]),
        ])
    func chunks(count: Int, lengths: [Int]) throws {
        let decoder = try AutoencoderKLDecoder(folder: try Golden("5b").folder, backend: testBackend(), dtype: .float32)
        var found: [Int] = []
        var told: [[Int]] = []
        try decoder.decode(
            latents: randomTensor([count, 4, 1, 2], seed: 3),
            progress: { done, all throws(Failure) in told.append([done, all]) },
            frames: { chunk throws(Failure) in
                found.append(chunk.shape[0])
                #expect(Array(chunk.shape.dropFirst()) == [8, 16, 3])
                #expect(chunk.floats().allSatisfy { (0...1).contains($0) })
            })
        #expect(found == lengths)
        #expect(told == lengths.indices.map { [$0 + 1, lengths.count] })
        #expect(decoder.frameCount(latentFrames: count) == lengths.reduce(0, +))
    }

    @Test("half-precision latents and weight files are read")
    func halfPrecision() throws {
        let golden = try Golden("2b")
        let model = try RewrittenModel(of: "2b", file: WeightFile.autoencoder) { _, tensor in
            tensor.converted(to: .float16)
        }
        let decoder = try AutoencoderKLDecoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let decoded = try frames(decoder, try golden("decode.2.latents").converted(to: .float16))
        #expect(decibels(decoded, try golden("decode.2.frames")) >= 50)
    }

    @Test("latents of another shape and NaN are told, and work stops when the caller throws")
    func refusals() throws {
        let decoder = try AutoencoderKLDecoder(folder: try Golden("2b").folder, backend: testBackend(), dtype: .float32)
        func failure(_ latents: Tensor) throws -> Failure {
            try #require(throws: Failure.self) { try decoder.run(latents: latents) }
        }
        #expect(try failure(randomTensor([3, 5, 2, 2], seed: 1)).code == "latents_misshapen")
        #expect(try failure(randomTensor([4, 2, 2], seed: 1)).code == "latents_misshapen")
        #expect(try failure(Tensor([], shape: [0, 4, 2, 2])).code == "latents_misshapen")
        #expect(try failure(Tensor(Array(repeating: .nan, count: 16), shape: [1, 4, 2, 2])).code == "numeric_fault")
        let stopped = try #require(throws: Failure.self) {
            try decoder.decode(latents: randomTensor([5, 4, 1, 1], seed: 1)) { _ throws(Failure) in
                throw Failure("cancelled", "enough")
            }
        }
        #expect(stopped.code == "cancelled")
    }

    @Test("a decoder that overflows is a numeric fault, not a clamped picture")
    func overflow() throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.autoencoder) { key, tensor in
            key == "decoder.conv_out.conv.bias" ? Tensor([.infinity, 0, 0], shape: [3]) : tensor
        }
        let decoder = try AutoencoderKLDecoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        let failure = try #require(throws: Failure.self) {
            try decoder.decode(latents: randomTensor([1, 4, 2, 2], seed: 1)) { _ throws(Failure) in }
        }
        #expect(failure.code == "numeric_fault")
    }

    @Test(
        "the encoder's keys must be there too",
        arguments: [
            "encoder.mid_block.resnets.1.norm2.weight", "decoder.up_blocks.2.upsamplers.0.conv.bias",
            "decoder.up_blocks.0.resnets.1.norm1.conv_y.conv.weight",
        ])
    func keys(missing: String) throws {
        let model = try RewrittenModel(of: "2b", file: WeightFile.autoencoder) { key, tensor in
            key == missing ? nil : tensor
        }
        let failure = try #require(throws: Failure.self) {
            try AutoencoderKLDecoder(folder: model.folder(), backend: testBackend(), dtype: .float32)
        }
        #expect(failure.code == "checkpoint_keys_mismatch" && failure.message.contains("missing: \(missing)"))
    }
}
