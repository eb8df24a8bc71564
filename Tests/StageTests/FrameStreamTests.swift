import Bus
import Dispatch
import Failure
import Stage
import Tensor
import Testing

@Suite("Frames on their way to the next stage", .timeLimit(.minutes(1)))
struct FrameStreamTests {
    /// Frame `t` has the value `t + offset` everywhere.
    private func clip(_ frames: Int, offset: Int = 0) -> Tensor {
        var clip = Tensor(zeros: [frames, 2, 3, 3], dtype: .uint8)
        clip.withUnsafeMutableBytes { bytes in
            for index in bytes.indices { bytes[index] = UInt8(index / 18 + offset) }
        }
        return clip
    }

    private func receiver(_ party: AssistanceParty, progress: TaskProgress = TaskProgress()) -> FrameReceiver {
        FrameReceiver(StageAssistance(task: "job/decode", party: party, progress: progress))
    }

    private func rest(_ receiver: FrameReceiver) throws -> [UInt8] {
        var values: [UInt8] = []
        while let frames = try receiver.nextFrames() {
            frames.withUnsafeBytes { bytes in values += stride(from: 0, to: bytes.count, by: 18).map { bytes[$0] } }
        }
        return values
    }

    @Test("every frame arrives once and in order, in whatever portions it was made")
    func inOrder() throws {
        let (leader, follower) = AssistanceParty.pair()
        let sender = FrameSender(leader), receiver = receiver(follower), clip = clip(41)
        for count in [9, 9, 17, 41] { sender.send(clip, count: count) }
        sender.finish()
        #expect(try receiver.nextClip() == ClipShape(frames: 41, height: 2, width: 3))
        #expect(try rest(receiver) == (0..<41).map(UInt8.init))
        let end = #expect(throws: Failure.self) { _ = try receiver.nextClip() }
        #expect(end?.code == "assistance_over")
    }

    @Test("a clip that is begun again arrives again from its first frame, and the old one ends")
    func again() throws {
        let (leader, follower) = AssistanceParty.pair()
        let sender = FrameSender(leader), receiver = receiver(follower)
        sender.send(clip(17), count: 9)
        _ = try receiver.nextClip()
        _ = try receiver.nextFrames()
        sender.restart()
        sender.send(clip(17, offset: 100), count: 17)
        let over = #expect(throws: Failure.self) { _ = try receiver.nextFrames() }
        #expect(over?.code == "assistance_round_over")
        #expect(try receiver.nextClip().frames == 17)
        #expect(try rest(receiver) == (100..<117).map(UInt8.init))
    }

    @Test("nobody who follows, or a leader that gives up, disturbs anybody")
    func nobody() throws {
        let alone = FrameSender(nil)
        alone.send(clip(3), count: 3)
        alone.finish()
        let (leader, follower) = AssistanceParty.pair()
        let sender = FrameSender(leader), receiver = receiver(follower)
        sender.send(clip(17), count: 9)
        sender.abandon()
        _ = try receiver.nextClip()
        let end = #expect(throws: Failure.self) { _ = try rest(receiver) }
        #expect(end?.code == "assistance_over")
    }

    @Test("a follower that comes too late, or falls behind, is let go rather than kept up with")
    func tooLate() throws {
        let (leader, follower) = AssistanceParty.pair()
        let sender = FrameSender(leader, backlogLimit: 20 * 18), receiver = receiver(follower)
        sender.send(clip(41), count: 20)
        sender.send(clip(41), count: 40)
        _ = try receiver.nextClip()
        _ = try receiver.nextFrames()
        _ = try receiver.nextFrames()

        let (other, late) = AssistanceParty.pair()
        let slow = FrameSender(other, backlogLimit: 20 * 18)
        slow.send(clip(41), count: 21)
        slow.send(clip(41), count: 41)
        slow.finish()
        let end = #expect(throws: Failure.self) { _ = try self.receiver(late).nextClip() }
        #expect(end?.code == "assistance_over" && end?.message == "it did not keep up")
    }

    @Test("a worker that is told to stop does not wait for frames")
    func stopped() throws {
        let (_, follower) = AssistanceParty.pair()
        let progress = TaskProgress()
        progress.cancel("drain")
        let stop = #expect(throws: Failure.self) { _ = try receiver(follower, progress: progress).nextClip() }
        #expect(stop?.code == "cancelled")
    }

    @Test("sizes and frames that do not belong together are refused")
    func misfits() throws {
        func begin(_ shape: String, frames: Int?) throws -> FrameReceiver {
            let (leader, follower) = AssistanceParty.pair()
            leader.begin(round: 1, assistants: [])
            leader.send(Tensor(bytes: Array(shape.utf8)), AssistanceSubject(round: 1, kind: 1), from: 0, to: 1)
            if let frames {
                leader.send(
                    Tensor(zeros: [frames], dtype: .uint8), AssistanceSubject(round: 1, kind: 2), from: 0, to: 1)
            }
            return receiver(follower)
        }
        for shape in [
            #"{"frames":0,"height":2,"width":3}"#, #"{"frames":16000,"height":16000,"width":16000}"#, "{}", "",
        ] {
            let failure = #expect(throws: Failure.self) { _ = try begin(shape, frames: nil).nextClip() }
            #expect(failure?.code == "parameters_invalid")
        }
        for bytes in [0, 17, 19, 18 * 4] {
            let receiver = try begin(#"{"frames":3,"height":2,"width":3}"#, frames: bytes)
            _ = try receiver.nextClip()
            let failure = #expect(throws: Failure.self) { _ = try receiver.nextFrames() }
            #expect(failure?.code == "parameters_invalid", "\(bytes) bytes")
        }
    }
}
