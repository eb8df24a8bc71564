import Compute
import Synchronization
import Tensor
import TestSupport
import Testing

@Suite("Threads")
struct ParallelTests {
    @Test("every part runs exactly once, whatever the number of threads", arguments: [1, 2, 3, 7])
    func parts(threads: Int) {
        let pool = ParallelPool(threads: threads)
        #expect(pool.threads == threads)
        for count in [0, 1, 2, 5, 1000] {
            let counts = Mutex([Int](repeating: 0, count: count))
            let members = Mutex(Set<Int>())
            pool.run(count) { part, member in
                counts.withLock { $0[part] += 1 }
                members.withLock { _ = $0.insert(member) }
            }
            #expect(counts.withLock { $0 } == [Int](repeating: 1, count: count))
            #expect(members.withLock { $0 }.allSatisfy { (0..<threads).contains($0) })
        }
    }

    @Test("ranges cover the rows without overlap")
    func ranges() {
        let pool = ParallelPool(threads: 2)
        let seen = Mutex([Int](repeating: 0, count: 103))
        pool.run(rows: 103, grain: 10) { rows, _ in seen.withLock { seen in for row in rows { seen[row] += 1 } } }
        #expect(seen.withLock { $0 }.allSatisfy { $0 == 1 })
    }

    @Test("several callers of one pool take turns and lose nothing")
    func callers() async {
        let pool = ParallelPool(threads: 3)
        await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    let parts = Atomic(0)
                    for _ in 0..<200 { pool.run(7) { _, _ in parts.add(1, ordering: .relaxed) } }
                    return parts.load(ordering: .relaxed)
                }
            }
            for await parts in group { #expect(parts == 200 * 7) }
        }
    }

    @Test("results are the same bits for one, two and three threads", arguments: Backends.dtypes)
    func deterministic(dtype: DType) throws {
        let results = [1, 2, 3].map { threads -> [Tensor] in
            let backend = CPUBackend(threads: threads)
            let x = randomTensor([300, 96], seed: 1, dtype: dtype)
            let weights = backend.linearWeights(
                randomTensor([700, 96], seed: 2), bias: randomTensor([700], seed: 3), dtype: dtype)
            let video = x.reshaped([3, 10, 10, 96])
            let kernel = backend.convolutionWeights(randomTensor([40, 96, 3, 3, 3], seed: 4), bias: nil, dtype: dtype)
            let one = randomTensor([96], seed: 5), heads = randomTensor([300, 192], seed: 7, dtype: dtype)
            let tall = randomTensor([1, 40, 100, 96], seed: 6, dtype: dtype)
            return [
                backend.linear(x, weights, activation: .geluTanh),
                backend.attention(x, x, x, heads: 3, scale: 0.1, bias: nil),
                backend.attention(
                    heads, heads, heads, heads: 3, scale: 0.1, bias: nil, sequences: 1, firstQuery: 0,
                    precision: .int8),
                backend.layerNorm(x, weight: one, bias: one, epsilon: 1e-5, scale: nil, shift: nil),
                Tensor.stacked(backend.convolution(video.slices, kernel, added: nil)),
                backend.groupNorm(tall, groups: 32, weight: one, bias: one, silu: true),
            ]
        }
        for other in results[1...] {
            for (index, pair) in zip(results[0], other).enumerated() {
                #expect(identical(pair.0, pair.1), "operation \(index)")
            }
        }
    }

    @Test("several tasks may use one backend at once")
    func sharedBackend() async throws {
        let backend = try Backends.backend(.best)
        let x = randomTensor([150, 64], seed: 1), expected = backend.attention(x, x, x, heads: 2, scale: 0.2, bias: nil)
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<6 {
                group.addTask { identical(backend.attention(x, x, x, heads: 2, scale: 0.2, bias: nil), expected) }
            }
            for await same in group { #expect(same) }
        }
    }
}

@Suite("Backend identity")
struct IdentityTests {
    @Test("the numerics name the kernels, and do not change with threads")
    func numerics() throws {
        let best = try Backends.backend(.best), generic = try Backends.backend(.generic)
        #expect(best.numerics == CPUBackend(threads: 1).numerics)
        #expect(generic.numerics.hasPrefix("cpu/generic/"))
        #expect(best.description.hasSuffix("2 threads)"))
    }
}
