import Bus
import Checkpoint
import Compute
import DemoModel
import Dispatch
import Failure
import Foundation
import Request
import Stage
import Synchronization
import Tensor
import TestSupport
import Testing
import VAEDecoderService

@Suite("A decoder that others help", .timeLimit(.minutes(2)))
struct SharedDecodeTests {
    private let folder: ModelFolder
    private let latents: Tensor

    init() throws {
        folder = try ModelFolder(path: try DemoModel.path())
        latents = randomTensor([1, 5, folder.vae.latentChannels, 5, 4], seed: 3)
    }

    private func handler(limit: Int? = nil) throws -> VAEDecoderHandler {
        try VAEDecoderHandler(
            folder: folder, backend: CPUBackend(threads: 1), budget: MemoryBudget(limit: limit ?? 64 << 30))
    }

    /// Where a task comes from whose request for help is answered with `party`.
    private final class HelpedPort: StagePort {
        let party: AssistanceParty?
        let follower: AssistanceParty?
        let asked = Mutex<[Int]>([])
        private let local: LocalPort

        init(_ inputs: [String: Tensor], party: AssistanceParty?, follower: AssistanceParty? = nil) {
            local = LocalPort(inputs: inputs)
            self.party = party
            self.follower = follower
        }

        var inputNames: [String] { local.inputNames }
        func fetchInput(_ name: String) async throws(Failure) -> Tensor { try await local.fetchInput(name) }
        var checkpointSteps: [Int] { [] }
        func fetchCheckpoint(step: Int) async throws(Failure) -> Tensor { try await local.fetchCheckpoint(step: step) }
        func saveCheckpoint(step: Int, _ tensor: Tensor) {}
        var checkpointCost: Duration { .zero }

        func gather(_ count: Int) async -> AssistanceParty? {
            asked.withLock { $0.append(count) }
            return party
        }

        func expectFollower() async -> AssistanceParty? { follower }
    }

    /// Everything that a follower gets until it is let go, and why it was.
    private func received(by follower: AssistanceParty) async -> (clips: [Tensor], end: String) {
        let clips = Mutex<[Tensor]>([])
        let end = await onThread { () throws(Failure) -> Void in
            let receiver = FrameReceiver(StageAssistance(task: "job/decode", party: follower))
            while true {
                _ = try receiver.nextClip()
                clips.withLock { $0.append(Tensor(zeros: [0], dtype: .uint8)) }
                do throws(Failure) {
                    var portions: [Tensor] = []
                    while let frames = try receiver.nextFrames() { portions.append(frames) }
                    clips.withLock { $0[$0.count - 1] = Tensor.concatenated(portions) }
                } catch {
                    guard error.code == "assistance_round_over" else { throw error }
                }
            }
        }
        guard case .failure(let failure) = end else { return (clips.withLock { $0 }, "") }
        return (clips.withLock { $0 }, failure.code)
    }

    @Test("a muxer that follows gets the frames, from one decoder and from two")
    func followed() async throws {
        let (first, follower) = AssistanceParty.pair()
        let alone = HelpedPort(["latents": latents], party: nil, follower: first)
        let result = try await handler().run(task(alone, workers: 1))
        var got = await received(by: follower)
        #expect(got.clips.count == 1 && got.end == "assistance_over")
        #expect(identical(try #require(got.clips.first), try #require(result.output("frames"))))

        let (leader, assistant) = AssistanceParty.pair(), (second, other) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: leader, follower: second)
        let leading = try handler(), helping = try handler(), task = try task(port, workers: 2)
        async let help = onThread { () throws(Failure) in
            try await helping.assist(StageAssistance(task: "job/decode", party: assistant))
        }
        let shared = try await onThread { () throws(Failure) in try await leading.run(task) }.get()
        _ = await help
        got = await received(by: other)
        #expect(identical(try #require(got.clips.last), try #require(shared.output("frames"))))
    }

    @Test("a decode that fails lets its follower go without a clip")
    func followedInVain() async throws {
        let (leader, follower) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: nil, follower: leader)
        await #expect(throws: Failure.self) { try await handler(limit: 1 << 20).run(task(port, workers: 1)) }
        let got = await received(by: follower)
        #expect(got.clips.isEmpty && got.end == "assistance_over")
    }

    private func task(_ port: any StagePort, workers: Int?, progress: TaskProgress = TaskProgress()) throws -> StageTask
    {
        let parameters = DecodeParameters(dtype: .float32, numFrames: 17, keepFloatFrames: true, workers: workers)
        return StageTask(
            name: "job/decode", attempt: 1, parameters: try CanonicalJSON.encode(parameters), port: port,
            progress: progress)
    }

    /// Runs `body` on a thread of its own: it may wait for others there.
    private func onThread<Value: Sendable>(
        _ body: @escaping @Sendable () async throws(Failure) -> Value
    ) async -> Result<Value, Failure> {
        await Task(executorPreference: Computing()) {
            do throws(Failure) { return .success(try await body()) } catch { return .failure(error) }
        }.value
    }

    private final class Computing: TaskExecutor {
        private let queue = DispatchQueue(label: "shared decode")
        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }

    private func alone() async throws -> StageResult {
        try await handler().run(task(LocalPort(inputs: ["latents": latents]), workers: 1))
    }

    private func isClose(_ found: StageResult, _ expected: StageResult) throws -> Bool {
        let floats = maxAbsoluteDifference(
            try #require(found.output("frames_float32")), try #require(expected.output("frames_float32")))
        let bytes = maxAbsoluteDifference(
            try #require(found.output("frames")).converted(to: .float32),
            try #require(expected.output("frames")).converted(to: .float32))
        return floats <= 1e-4 && bytes <= 1
    }

    @Test("two decoders make the frames of one, and the notes say so")
    func two() async throws {
        let expected = try await alone()
        let (leader, assistant) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: leader)
        let leading = try handler(), helping = try handler(), task = try task(port, workers: 9)
        async let help = onThread { () throws(Failure) in
            try await helping.assist(StageAssistance(task: "job/decode", party: assistant))
        }
        let result = try await onThread { () throws(Failure) in try await leading.run(task) }.get()
        #expect(try isClose(result, expected))
        #expect(result.notes == ["decoded by 2 decoders"] && result.manner == "decoders=2")
        #expect(port.asked.withLock { $0 } == [4], "no more than there are rows")
        #expect(task.progress.step == 2 && task.progress.total == 2)
        guard case .failure(let end) = await help else { throw Failure("ended", "nothing ended it") }
        #expect(end.code == "assistance_over")
    }

    @Test("an assistant that leaves in the middle costs time: the rest begin again")
    func leaves() async throws {
        let expected = try await alone()
        let (leader, assistant) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: leader)
        let leading = try handler(), helping = try handler(), task = try task(port, workers: 2)
        let progress = TaskProgress()
        async let help = onThread { () throws(Failure) in
            do throws(Failure) {
                try await helping.assist(StageAssistance(task: "job/decode", party: assistant, progress: progress))
            } catch {
                assistant.leave(error.code, error.message)
                throw error
            }
        }
        async let leadership = onThread { () throws(Failure) in try await leading.run(task) }
        while task.progress.step == 0 { try await Task.sleep(for: .milliseconds(1)) }
        progress.cancel("drain")
        let result = try await leadership.get()
        guard case .failure(let end) = await help else { throw Failure("ended", "nothing ended it") }
        // It may have given all it had to give before it was asked to stop.
        if end.code == "cancelled", result.notes.count > 1 {
            #expect(result.notes[0].hasPrefix("decode_restarted: assistant 1 is gone: cancelled"))
            #expect(result.notes[1] == "decoded by 1 decoder")
        }
        #expect(try isClose(result, expected))
    }

    @Test("an assistant with too little memory is done without")
    func assistantTooSmall() async throws {
        let expected = try await alone()
        let (leader, assistant) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: leader)
        let leading = try handler(), helping = try handler(limit: 1 << 20), task = try task(port, workers: 2)
        async let help = onThread { () throws(Failure) in
            do throws(Failure) {
                try await helping.assist(StageAssistance(task: "job/decode", party: assistant))
            } catch {
                assistant.leave(error.code, error.message)
                throw error
            }
        }
        let result = try await onThread { () throws(Failure) in try await leading.run(task) }.get()
        #expect(result.notes.first?.contains("memory_insufficient") == true && result.notes.count == 2)
        #expect(result.manner.isEmpty, "in the end it was alone")
        #expect(identical(try #require(result.output("frames")), try #require(expected.output("frames"))))
        _ = await help
    }

    @Test("a cancelled leader ends the help")
    func cancelled() async throws {
        let (leader, assistant) = AssistanceParty.pair()
        let port = HelpedPort(["latents": latents], party: leader)
        let leading = try handler(), helping = try handler(), progress = TaskProgress()
        let task = try task(port, workers: 2, progress: progress)
        progress.cancel("cancelled")
        async let help = onThread { () throws(Failure) in
            try await helping.assist(StageAssistance(task: "job/decode", party: assistant))
        }
        guard case .failure(let stopped) = await onThread({ () throws(Failure) in try await leading.run(task) }) else {
            throw Failure("finished", "it was not stopped")
        }
        #expect(stopped.code == "cancelled")
        guard case .failure(let end) = await help else { throw Failure("ended", "nothing ended it") }
        #expect(end.code == "assistance_over")
    }

    @Test("a small decode asks nobody, a decode that exceeds the memory asks, and is refused when nobody comes")
    func asksWhenNeeded() async throws {
        let small = HelpedPort(["latents": latents], party: nil)
        _ = try await handler().run(task(small, workers: nil))
        #expect(small.asked.withLock { $0 } == [])
        let tight = HelpedPort(["latents": latents], party: nil)
        let narrow = try handler(limit: 1 << 20), tightTask = try task(tight, workers: nil)
        let failure = await #expect(throws: Failure.self) { try await narrow.run(tightTask) }
        #expect(failure?.code == "memory_insufficient")
        #expect(tight.asked.withLock { $0 } == [4])
        let alone = HelpedPort(["latents": latents], party: nil)
        _ = try await handler().run(task(alone, workers: 3))
        #expect(alone.asked.withLock { $0 } == [2])
    }
}
