import Checkpoint
import Compute
import Failure
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite("A decode that several share by rows")
struct SlabTests {
    private static func frames(
        _ decoder: AutoencoderKLDecoder, _ latents: Tensor, _ member: SlabMember? = nil
    ) throws -> Tensor {
        var run = try decoder.run(latents: latents, member: member)
        var chunks: [Tensor] = []
        while let chunk = try run.next() { chunks.append(chunk) }
        return Tensor.concatenated(chunks)
    }

    /// The slabs `[T, rows, W, 3]` of all members as one clip.
    private static func joined(_ slabs: [Tensor]) -> Tensor {
        Tensor.stacked(
            (0..<slabs[0].shape[0]).map { frame in
                Tensor.concatenated(slabs.map { $0.slices[frame] })
            })
    }

    private static func decoder(_ name: String, _ dtype: DType = .float32) throws -> AutoencoderKLDecoder {
        try AutoencoderKLDecoder(folder: try Golden(name).folder, backend: CPUBackend(threads: 1), dtype: dtype)
    }

    @Test(
        "slabs of even and uneven height put together are the untiled clip",
        arguments: [
            (rows: 6, frames: 5, members: 1), (6, 5, 2), (7, 5, 2), (7, 5, 3), (6, 3, 3), (5, 4, 2), (3, 1, 3),
            (2, 2, 2),
            (2, 13, 2), (4, 3, 9),
        ])
    func equalsUntiled(rows: Int, frames: Int, members: Int) throws {
        let decoder = try Self.decoder("2b"), latents = randomTensor([frames, 4, rows, 5], seed: 11)
        let whole = try Self.frames(decoder, latents)
        let slabs = LocalSlabs(plan: SlabPlan(height: rows, members: members))
        let parts = try slabs.run { try Self.frames(decoder, latents, $0) }
        #expect(parts.map { $0.shape[1] } == slabs.plan.rows.map { $0.count * 8 })
        let together = Self.joined(parts)
        #expect(together.shape == whole.shape)
        // Values are in [0, 1]. What differs is the order in which the sums of a norm are added, in double.
        #expect(maxAbsoluteDifference(together, whole) <= 2e-6)
        if slabs.plan.count == 1 { #expect(identical(together, whole), "one member is the decoder itself") }
    }

    @Test("slabs equal the frames of diffusers", arguments: ["2b", "5b", "1.5"])
    func parity(name: String) throws {
        let golden = try Golden(name), count = name == "2b" ? 5 : 3
        let latents = try golden("decode.\(count).latents"), reference = try golden("decode.\(count).frames")
        let decoder = try Self.decoder(name)
        for members in 2...3 {
            let slabs = LocalSlabs(plan: SlabPlan(height: latents.shape[2], members: members))
            let parts = try slabs.run { try Self.frames(decoder, latents, $0) }
            #expect(maxAbsoluteDifference(Self.joined(parts), reference) <= 1e-4, "\(members) members")
        }
    }

    @Test("the same members give the same bits again, in bfloat16 too", arguments: [DType.float32, .bfloat16])
    func deterministic(dtype: DType) throws {
        let decoder = try Self.decoder("2b", dtype), latents = randomTensor([5, 4, 7, 3], seed: 4)
        func decode() throws -> Tensor {
            let slabs = LocalSlabs(plan: SlabPlan(height: 7, members: 3))
            return Self.joined(try slabs.run { try Self.frames(decoder, latents, $0) })
        }
        let first = try decode()
        #expect(identical(first, try decode()))
        #expect(decibels(first, try Self.frames(decoder, latents)) >= 45)
    }

    @Test("caches in a file hold a member's rows as well")
    func cacheFile() throws {
        let decoder = try Self.decoder("2b"), latents = randomTensor([5, 4, 5, 3], seed: 5)
        let whole = try Self.frames(decoder, latents)
        let folder = FileManager.default.temporaryDirectory.path
        let slabs = LocalSlabs(plan: SlabPlan(height: 5, members: 2))
        let parts = try slabs.run { member in
            var run = try decoder.run(latents: latents, cacheDirectory: folder, member: member)
            var chunks: [Tensor] = []
            while let chunk = try run.next() { chunks.append(chunk) }
            return Tensor.concatenated(chunks)
        }
        #expect(maxAbsoluteDifference(Self.joined(parts), whole) <= 2e-6)
    }

    @Test("no member ever holds the whole activation")
    func memory() throws {
        let golden = try Golden("2b"), latents = randomTensor([3, 4, 24, 24], seed: 6)
        @Sendable func decoder() throws -> (CPUBackend, AutoencoderKLDecoder) {
            let backend = CPUBackend(threads: 1)
            return (backend, try AutoencoderKLDecoder(folder: golden.folder, backend: backend, dtype: .float32))
        }
        let (alone, untiled) = try decoder()
        _ = try Self.frames(untiled, latents)
        let slabs = LocalSlabs(plan: SlabPlan(height: 24, members: 3))
        let peaks = try slabs.run { member in
            let (backend, decoder) = try decoder()
            _ = try Self.frames(decoder, latents, member)
            return backend.peakStorageBytes
        }
        // A third of the rows each, and margins of two rows of 64.
        for peak in peaks { #expect(peak < alone.peakStorageBytes * 2 / 5, "\(peak) of \(alone.peakStorageBytes)") }

        let config = golden.folder.vae
        func plan(_ members: Int) -> DecoderMemory {
            DecoderMemory(config, height: 96, width: 170, elementBytes: 4, members: members)
        }
        let fixed = 512 << 20
        #expect(plan(1) == DecoderMemory(config, height: 96, width: 170, elementBytes: 4))
        #expect((plan(4).working - fixed) * 7 < (plan(1).working - fixed) * 2)
        #expect(plan(4).caches * 7 < plan(1).caches * 2)
    }

    @Test("what members tell one another: a row of every activation each way, and the sums of every norm")
    func traffic() throws {
        let decoder = try Self.decoder("2b")
        let slabs = LocalSlabs(plan: SlabPlan(height: 4, members: 2))
        _ = try slabs.run { try Self.frames(decoder, randomTensor([1, 4, 4, 2], seed: 8), $0) }
        // Two resnets in the middle and two in each of four levels with two norms each, and the last norm.
        #expect(slabs.reductions == 2 * (2 + 4 * 2) + 1)
        // Widths 16, 16, 8, 8 and 2, 4, 8, 16 columns: the input of the middle, hidden and result of each block, and what
        // each enlargement makes.
        let rows = (1 + 2 * 2 + 2 * 2) * 16 * 2 + (1 + 4) * 16 * 4 + 16 * 8 + 4 * 8 * 8 + (8 + 4 * 8) * 16
        #expect(slabs.movedBytes == 2 * rows * 4)
    }

    @Test("a member that fails ends the run of all, and odd answers of a neighbour are refused")
    func failures() throws {
        let decoder = try Self.decoder("2b"), latents = randomTensor([3, 4, 4, 2], seed: 9)
        let slabs = LocalSlabs(plan: SlabPlan(height: 4, members: 2))
        let failure = try #require(throws: Failure.self) {
            try slabs.run { member in
                if member.index == 1 { throw Failure("cancelled", "enough") }
                return try Self.frames(decoder, latents, member)
            }
        }
        #expect(failure.code == "cancelled")
        for odd in [OddNeighbour.Answer.rows, .sums] {
            let member = SlabMember(
                plan: SlabPlan(height: 4, members: 2), index: 0, exchange: OddNeighbour(answer: odd))
            let refused = try #require(throws: Failure.self) { try Self.frames(decoder, latents, member) }
            #expect(refused.code == "slab_mismatched")
        }
    }

    private struct OddNeighbour: SlabExchange {
        enum Answer { case rows, sums }
        let answer: Answer

        func exchange(top: Tensor?, bottom: Tensor?) throws(Failure) -> (above: Tensor?, below: Tensor?) {
            (nil, answer == .rows ? Tensor(zeros: [1, 1, 1, 1]) : bottom)
        }

        func reduce(_ values: [Double]) throws(Failure) -> [Double] { answer == .sums ? [1, 2] : values }
    }

    @Test("slabs differ by a row at most, and there are no more than rows")
    func plans() {
        #expect(SlabPlan(height: 60, members: 2).rows == [0..<30, 30..<60])
        #expect(SlabPlan(height: 7, members: 3).rows == [0..<3, 3..<5, 5..<7])
        #expect(SlabPlan(height: 2, members: 5).rows == [0..<1, 1..<2])
        let plan = SlabPlan(height: 7, members: 3)
        #expect(plan.margins(of: 0) == RowMargins(top: 0, bottom: 1))
        #expect(plan.margins(of: 1) == RowMargins(top: 1, bottom: 1))
        #expect(plan.margins(of: 2) == RowMargins(top: 1, bottom: 0))
        #expect(SlabPlan(height: 7, members: 1).margins(of: 0) == .none)
    }
}
