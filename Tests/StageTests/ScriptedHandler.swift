import Dispatch
import Failure
import Stage
import Synchronization
import Tensor

/// A stage whose work is a closure.
struct ScriptedHandler: StageHandler {
    let stage = "test"
    let modelDigest = ""
    let numerics = "test/1"
    let memoryPlan = MemoryPlan([:])
    let body: @Sendable (StageTask) async throws(Failure) -> StageResult

    func run(_ task: StageTask) async throws(Failure) -> StageResult { try await body(task) }
}

/// Holds a computing thread until the test opens it, as a long matrix product would.
final class Gate: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)

    func open() { semaphore.signal() }

    /// Blocks the calling thread.
    func pass() { semaphore.wait() }
}

/// A result with one output named `sum`: the sum of the input `x`.
@Sendable func sumOfInput(_ task: StageTask) async throws(Failure) -> StageResult {
    let x = try await task.input("x", TensorExpectation([.float32], [.any("n")]))
    var result = StageResult()
    result.add("sum", Tensor([x.floats().reduce(0, +)], shape: [1]))
    return result
}
