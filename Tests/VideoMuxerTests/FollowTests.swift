import Bus
import Diffusion
import Dispatch
import Failure
import FoundationEssentials
import Request
import Stage
import Synchronization
import Tensor
import TestSupport
import Testing
import VideoMuxerService

@Suite("Encoding while the clip is decoded", .serialized, .timeLimit(.minutes(1)))
struct FollowTests {
    private func parameters(_ container: OutputContainer) throws -> String {
        let request = GenerationRequest(
            prompt: "a sun", negativePrompt: "", width: 64, height: 48, numFrames: 17, framesPerSecond: 8,
            numInferenceSteps: 25, guidanceScale: 6, useDynamicCFG: false, scheduler: .ddim, seed: 42,
            dtype: .float32, container: container)
        return try CanonicalJSON.encode(MuxParameters(request: request, modelDigest: "abc123"))
    }

    private func task(_ frames: Tensor, _ container: OutputContainer, job: String = "job") throws -> StageTask {
        StageTask(
            name: "\(job)/mux", attempt: 1, parameters: try parameters(container),
            port: LocalPort(inputs: ["frames": frames]))
    }

    private let frames = noise([17, 48, 64, 3], seed: 5)

    private static func noise(_ shape: [Int], seed: UInt64) -> Tensor {
        let values = randomTensor(shape, seed: seed).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return Tensor(bytes: values.map { UInt8(min(max($0 * 40 + 128, 0), 255)) }).reshaped(shape)
    }

    /// Follows a decode to its end, on a thread of its own.
    private func follow(
        _ handler: VideoMuxerHandler, _ party: AssistanceParty, _ container: OutputContainer
    ) throws -> Task<String, Never> {
        let assistance = StageAssistance(task: "job/decode", party: party, parameters: try parameters(container))
        return Task(executorPreference: Following()) {
            do throws(Failure) {
                try await handler.follow(assistance)
                return "returned"
            } catch {
                return error.code
            }
        }
    }

    private final class Flag: Sendable {
        private let value = Mutex(false)
        var isSet: Bool { value.withLock { $0 } }
        func set() { value.withLock { $0 = true } }
    }

    private final class Following: TaskExecutor {
        private let queue = DispatchQueue(label: "follower")
        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }

    @Test("the file has the bytes of one that was encoded afterwards", arguments: [OutputContainer.mp4, .webm, .mkv])
    func sameBytes(container: OutputContainer) async throws {
        let clips = EncodedClips(), handler = VideoMuxerHandler(threads: 1, clips: clips)
        let expected = try await VideoMuxerHandler(threads: 1).run(task(frames, container))
        let (leader, follower) = AssistanceParty.pair()
        let following = try follow(handler, follower, container)
        let sender = FrameSender(leader)
        for count in [9, 17] { sender.send(frames, count: count) }
        sender.finish()
        #expect(await following.value == "assistance_over")
        #expect(clips.count == 1)
        let result = try await handler.run(task(frames, container))
        #expect(clips.count == 0, "it was used")
        for name in ["video", "contact_sheet", "thumbnail"] {
            #expect(identical(try #require(result.output(name)), try #require(expected.output(name))), "\(name)")
        }
    }

    @Test("a task of the job waits for the encoder that follows, and one of another job does not")
    func waits() async throws {
        let clips = EncodedClips(), handler = VideoMuxerHandler(threads: 1, clips: clips)
        let (leader, follower) = AssistanceParty.pair()
        let following = try follow(handler, follower, .mkv)
        let sender = FrameSender(leader)
        sender.send(frames, count: 9)
        while clips.followedJobs != ["job"] { try await Task.sleep(for: .milliseconds(1)) }
        _ = try await handler.run(task(frames, .mkv, job: "other"))
        let ended = Flag()
        let waiting = try task(frames, .mkv)
        let running = Task {
            _ = try await handler.run(waiting)
            ended.set()
        }
        #expect(!ended.isSet)
        sender.send(frames, count: 17)
        sender.finish()
        _ = try await running.value
        #expect(await following.value == "assistance_over")
        #expect(clips.count == 0 && clips.followedJobs.isEmpty)
    }

    @Test("other frames or sizes, another container or a decode that ended early are encoded as ever")
    func misses() async throws {
        let clips = EncodedClips(), handler = VideoMuxerHandler(threads: 1, clips: clips)
        let (leader, follower) = AssistanceParty.pair()
        let following = try follow(handler, follower, .mkv)
        let sender = FrameSender(leader)
        sender.send(frames, count: 17)
        sender.finish()
        _ = await following.value
        let others = Self.noise([17, 48, 64, 3], seed: 6)
        let turned = frames.reshaped([17, 64, 48, 3])
        for (clip, container) in [(others, OutputContainer.mkv), (turned, .mkv), (frames, .webm)] {
            let expected = try await VideoMuxerHandler(threads: 1).run(task(clip, container))
            let result = try await handler.run(task(clip, container))
            #expect(identical(try #require(result.output("video")), try #require(expected.output("video"))))
            #expect(clips.count == 1)
        }
        let (second, lost) = AssistanceParty.pair()
        let early = try follow(handler, lost, .mp4)
        let broken = FrameSender(second)
        broken.send(frames, count: 9)
        broken.abandon()
        #expect(await early.value == "assistance_over")
        #expect(clips.count == 1 && clips.followedJobs.isEmpty)
    }

    @Test("a GIF, whose palette needs every frame, is not followed")
    func gif() async throws {
        let clips = EncodedClips(), (_, follower) = AssistanceParty.pair()
        let following = try follow(VideoMuxerHandler(threads: 1, clips: clips), follower, .gif)
        #expect(await following.value == "assistance_unsupported")
    }

    @Test("what nobody fetches gives way to what is newer")
    func bounded() async throws {
        let clips = EncodedClips(), handler = VideoMuxerHandler(threads: 1, clips: clips)
        for seed in 0..<20 {
            let (leader, follower) = AssistanceParty.pair()
            let following = try follow(handler, follower, .mp4)
            let sender = FrameSender(leader)
            sender.send(Self.noise([1, 48, 64, 3], seed: UInt64(seed)), count: 1)
            sender.finish()
            _ = await following.value
        }
        #expect(clips.count == 16)
    }
}
