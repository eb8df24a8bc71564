import Failure
import Stage
import Tensor
import Testing

@Suite struct StageTaskTests {
    private struct Parameters: Codable {
        var steps: Int
    }

    private func task(
        parameters: String = "{}", inputs: [String: Tensor] = [:], checkpoint: (step: Int, tensor: Tensor)? = nil
    ) -> StageTask {
        StageTask(
            name: "job/work", attempt: 1, parameters: parameters,
            port: LocalPort(inputs: inputs, checkpoint: checkpoint))
    }

    @Test("parameters are read from JSON, and what cannot be read is named")
    func parameters() throws {
        #expect(try task(parameters: #"{"steps": 7}"#).parameters(Parameters.self).steps == 7)
        for text in ["", "[]", "{}", #"{"steps": "seven"}"#] {
            let failure = #expect(throws: Failure.self) { try task(parameters: text).parameters(Parameters.self) }
            #expect(failure?.code == "parameters_invalid")
            #expect(failure?.retry == .never)
        }
    }

    @Test("an input that fits is given to the handler")
    func goodInput() async throws {
        let latents = Tensor([1, 2, 3, 4], shape: [1, 2, 2])
        let task = task(inputs: ["latents": latents])
        let expectation = TensorExpectation([.float32], [1, .any("height"), 2])
        #expect(try await task.input("latents", expectation).floats() == [1, 2, 3, 4])
        #expect(try await task.optionalInput("noise", expectation) == nil)
    }

    @Test(
        "an input that does not fit is refused for good, with name and values",
        arguments: [
            (Tensor([1, .nan], shape: [1, 2]), "tensor_not_finite", "[0, 1]"),
            (Tensor([.infinity, 1], shape: [1, 2]), "tensor_not_finite", "[0, 0]"),
            (Tensor([1, 2], shape: [2, 1]), "tensor_misshapen", "[1, width]"),
            (Tensor([1, 2], shape: [2]), "tensor_misshapen", "[2]"),
            (Tensor([], shape: [1, 0]), "tensor_misshapen", "[1, 0]"),
            (Tensor(ids: [1, 2], shape: [1, 2]), "tensor_dtype_wrong", "int32"),
        ])
    func badInput(tensor: Tensor, code: String, evidence: String) async {
        let task = task(inputs: ["latents": tensor])
        let failure = await #expect(throws: Failure.self) {
            try await task.input("latents", TensorExpectation([.float32, .bfloat16], [1, .any("width")]))
        }
        #expect(failure?.code == code)
        #expect(failure?.field == "latents")
        #expect(failure?.retry == .never)
        #expect(failure?.message.contains(evidence) == true, "\(failure?.message ?? "")")
    }

    @Test("an input the task does not have is refused with the names it has")
    func absentInput() async {
        let task = task(inputs: ["frames": Tensor([1], shape: [1])])
        let failure = await #expect(throws: Failure.self) { try await task.input("latents", .bytes) }
        #expect(failure?.code == "input_absent")
        #expect(failure?.message.contains("frames") == true)
    }

    @Test("the first reason to stop is the one a handler reports")
    func cancellation() throws {
        let task = task()
        try task.checkCancelled()
        task.progress.cancel("lease_lost")
        task.progress.cancel("shutdown")
        let failure = #expect(throws: Failure.self) { try task.checkCancelled() }
        #expect(failure?.code == "cancelled")
        #expect(failure?.message.contains("lease_lost") == true)
    }

    @Test("a note longer than the protocol carries is cut at a character and marked")
    func longNote() throws {
        var result = StageResult()
        result.note(String(repeating: "é", count: 3000))
        result.note("short")
        #expect(result.notes[0].utf8.count <= 2048)
        #expect(result.notes[0].hasSuffix("é…"))
        #expect(result.notes[1] == "short")
    }

    @Test("a value is made once per key, and a failed attempt is not kept")
    func loadedOnce() throws {
        let values = LoadedOnce<String, Int>()
        var made = 0
        func load(_ key: String) throws(Failure) -> Int {
            try values.value(for: key) { () throws(Failure) -> Int in
                made += 1
                if made == 1 { throw Failure("load_failed", "first try") }
                return made
            }
        }
        #expect(throws: Failure.self) { try load("a") }
        #expect(try load("a") == 2)
        #expect(try load("a") == 2)
        #expect(try load("b") == 3)
    }

    @Test("a memory plan reads as a sum, and what exceeds the budget is left to a bigger worker")
    func memory() {
        let plan = MemoryPlan(["weights": 10_100_000_000, "activations": 512_000_000])
        #expect(plan.description == "weights 10.1 GB + activations 512 MB = 10.6 GB")
        #expect(throws: Never.self) { try MemoryBudget(limit: 1000).check(1000, for: "a clip") }
        let failure = #expect(throws: Failure.self) { try MemoryBudget(limit: 1000).check(1001, for: "a clip") }
        #expect(failure?.code == "memory_insufficient")
        #expect(failure?.retry == .biggerWorker)
        #expect(MemoryBudget(limit: nil).limit > 1 << 26)
    }
}
