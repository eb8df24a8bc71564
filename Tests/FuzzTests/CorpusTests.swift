import Foundation
import FuzzTargets
import Testing

/// The committed corpora and mutations of them in the ordinary build: seconds, no sanitizers. `make fuzz` goes further.
@Suite("Hostile input breaks no promise", .serialized)
struct CorpusTests {
    static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fuzz/Corpus")

    @Test("every input of the corpus and a thousand mutations of them", arguments: FuzzTarget.allCases)
    func corpus(target: FuzzTarget) async throws {
        let folder = Self.corpus.appendingPathComponent(target.rawValue)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        let inputs = try names.map { [UInt8](try Data(contentsOf: folder.appendingPathComponent($0))) }
        try #require(inputs.count >= 4, "the corpus of \(target) has \(inputs.count) inputs")
        let subject = try await target.prepare()
        for (name, input) in zip(names, inputs) {
            await #expect(throws: Never.self, "\(target)/\(name)") { try await subject.run(input) }
        }
        var random = Mutator(state: 20_260)
        for number in 0..<1000 {
            let input = random.mutated(inputs[number % inputs.count])
            await #expect(throws: Never.self, "\(target), \(input)") { try await subject.run(input) }
        }
        await subject.finish()
    }
}

/// Changes a few bytes of an input; the same every time.
private struct Mutator {
    var state: UInt64

    private mutating func next(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }

    mutating func mutated(_ input: [UInt8]) -> [UInt8] {
        var bytes = input
        for _ in 0...next(4) {
            let place = next(bytes.count + 1)
            switch next(4) {
            case 0: bytes.insert(UInt8(next(256)), at: place)
            case 1 where place < bytes.count: bytes.remove(at: place)
            case 2: bytes.removeSubrange(place...)
            default: if place < bytes.count { bytes[place] ^= 1 << UInt8(next(8)) }
            }
        }
        return bytes
    }
}
