import Checkpoint
import Compute
import DemoModel
import Failure
import Foundation
import Request
import Stage
import Tensor
import TestSupport
import Testing
import TextEncoderService

@Suite("Text features are kept on disk")
struct EmbeddingCacheTests {
    private let place = FileManager.default.temporaryDirectory.appending(path: "zoetrope-\(UUID().uuidString)").path

    private func withCache(limit: Int = 1 << 30, _ body: (EmbeddingCache) async throws -> Void) async throws {
        defer { try? FileManager.default.removeItem(atPath: place) }
        try await body(try EmbeddingCache(folder: place, limitBytes: limit))
    }

    private func key(_ tokens: [Int32], model: String = "m", numerics: String = "n") -> EmbeddingCache.Key {
        EmbeddingCache.Key(model: model, numerics: numerics, dtype: .float32, tokens: tokens)
    }

    private func run(_ cache: EmbeddingCache?, _ prompt: String, negative: String? = "dark") async throws -> StageResult
    {
        let handler = try TextEncoderHandler(
            folder: ModelFolder(path: DemoModel.path()), backend: CPUBackend(threads: 2),
            budget: MemoryBudget(limit: nil), cache: cache)
        let parameters = EncodeParameters(prompt: prompt, negativePrompt: negative, dtype: .float32)
        return try await handler.run(
            StageTask(
                name: "job/encode", attempt: 1, parameters: try CanonicalJSON.encode(parameters),
                port: LocalPort(inputs: [:]), progress: TaskProgress()))
    }

    @Test("features are the same bits without a cache, made for it, and read from it", arguments: ["dark", "", nil])
    func identicalBits(negative: String?) async throws {
        try await withCache { cache in
            let plain = try await run(nil, "green hills", negative: negative)
            for _ in 0..<2 {
                let kept = try await run(cache, "green hills", negative: negative)
                #expect(kept.outputs.map(\.name) == plain.outputs.map(\.name))
                for (a, b) in zip(kept.outputs, plain.outputs) { #expect(identical(a.tensor, b.tensor), "\(a.name)") }
            }
            // One prompt is known now, the other joins it.
            let other = try await run(cache, "blue sea", negative: "green hills")
            let expected = try await run(nil, "blue sea", negative: "green hills")
            for (a, b) in zip(other.outputs, expected.outputs) { #expect(identical(a.tensor, b.tensor), "\(a.name)") }
        }
    }

    @Test("what lies in the folder is used")
    func used() async throws {
        try await withCache { cache in
            let folder = try ModelFolder(path: DemoModel.path())
            let first = try await run(cache, "hills", negative: nil)
            let ids = try #require(first.output("input_ids")), features = try #require(first.output("prompt_embeds"))
            let tokens = ids.withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
            let known = EmbeddingCache.Key(
                model: try folder.digest(), numerics: CPUBackend(threads: 1).numerics, dtype: .float32, tokens: tokens)
            #expect(identical(try #require(cache.features(known)), features))
            let marked = Tensor([Float](repeating: 0.5, count: features.count), shape: features.shape)
            cache.store(marked, known)
            #expect(
                identical(try #require(try await run(cache, "hills", negative: nil).output("prompt_embeds")), marked))
        }
    }

    @Test("another model, arithmetic, type or text has features of its own")
    func keys() async throws {
        try await withCache { cache in
            cache.store(Tensor([1, 2], shape: [1, 1, 2]), key([1, 2]))
            #expect(cache.features(key([1, 2]))?.floats() == [1, 2])
            var bfloat16 = key([1, 2])
            bfloat16.dtype = .bfloat16
            for other in [key([1]), key([1, 2], model: "o"), key([1, 2], numerics: "o"), bfloat16] {
                #expect(cache.features(other) == nil)
            }
        }
    }

    @Test("a damaged entry is not used and goes")
    func damaged() async throws {
        try await withCache { cache in
            cache.store(Tensor([1, 2], shape: [1, 1, 2]), key([1]))
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: place).first)
            var bytes = try Data(contentsOf: URL(filePath: "\(place)/\(name)"))
            bytes[bytes.count - 1] ^= 1
            try bytes.write(to: URL(filePath: "\(place)/\(name)"))
            #expect(cache.features(key([1])) == nil)
            #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
            try Data("x".utf8).write(to: URL(filePath: "\(place)/\(name)"))
            #expect(cache.features(key([1])) == nil)
        }
    }

    @Test("the folder stays within its limit, and what was used last stays")
    func bounded() async throws {
        let entry = Tensor([Float](repeating: 1, count: 1000), shape: [1, 1, 1000])
        try await withCache(limit: 10_000) { cache in
            cache.store(entry, key([1]))
            cache.store(entry, key([2]))
            let old = try FileManager.default.contentsOfDirectory(atPath: place)
            for name in old {
                try FileManager.default.setAttributes(
                    [.modificationDate: Date(timeIntervalSinceNow: -100)], ofItemAtPath: "\(place)/\(name)")
            }
            #expect(cache.features(key([1])) != nil)
            cache.store(entry, key([3]))
            #expect(cache.features(key([1])) != nil && cache.features(key([3])) != nil)
            #expect(cache.features(key([2])) == nil)
            cache.store(Tensor(zeros: [1, 1, 10_000]), key([4]))
            #expect(cache.features(key([4])) == nil, "larger than the folder may be")
        }
    }

    @Test("a folder that cannot be made is refused by name")
    func unusable() {
        let failure = #expect(throws: Failure.self) { try EmbeddingCache(folder: "/dev/null/x", limitBytes: 1) }
        #expect(failure?.code == "embedding_cache_unusable")
    }
}
