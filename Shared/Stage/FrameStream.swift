package import Bus
package import Failure
import Request
package import Tensor
import Wire

/// What goes over a party when a worker of the next stage follows the making of a clip (docs/protocol.md).
private enum FrameSubject: Int {
    /// Leader → follower, the beginning of a clip: `ClipShape` as JSON.
    case shape = 1
    /// Leader → follower: frames `[t, H, W, 3]` uint8; the tag is the number of the first.
    case frames
}

/// Size of a clip that comes frame by frame.
package struct ClipShape: Codable, Sendable, Hashable {
    package var frames: Int
    package var height: Int
    package var width: Int

    package init(frames: Int, height: Int, width: Int) {
        self.frames = frames
        self.height = height
        self.width = width
    }

    fileprivate var bytesPerFrame: Int { height * width * 3 }

    fileprivate var isSound: Bool {
        [frames, height, width].allSatisfy { (1...1 << 14).contains($0) }
            && frames * bytesPerFrame <= Limits.tensorBytes
    }
}

/// The leader's end: sends a clip's frames to whoever follows, from the first one on, whenever that one comes.
package final class FrameSender {
    /// Nil when nobody can follow, or nobody could keep up.
    private var party: AssistanceParty?
    private let backlogLimit: Int
    private var follower: Int?
    private var round = 0
    private var sent = 0

    /// Frames of one message at the most.
    private static let framesPerMessage = 16

    /// - Parameters:
    ///   - party: nil when nobody can follow.
    ///   - backlogLimit: bytes of copies that may wait here; a follower that needs more is let go.
    package init(_ party: AssistanceParty?, backlogLimit: Int = 256 << 20) {
        self.party = party
        self.backlogLimit = backlogLimit
    }

    /// The clip is begun again: what was sent of it is worth nothing.
    package func restart() { follower = nil }

    /// Sends what is new among the first `count` frames of the clip `[T, H, W, 3]`, uint8. Never waits.
    package func send(_ clip: Tensor, count: Int) {
        guard let party, let seat = party.assistants.last else { return }
        let new = count - (seat == follower ? sent : 0), frameBytes = clip.byteCount / max(1, clip.shape[0])
        guard party.unsentBytes + new * frameBytes <= backlogLimit else {
            party.leave("assistance_over", "it did not keep up")
            self.party = nil
            return
        }
        if seat != follower {
            let shape = ClipShape(frames: clip.shape[0], height: clip.shape[1], width: clip.shape[2])
            guard let text = try? CanonicalJSON.encode(shape) else { return }
            round += 1
            party.begin(round: round, assistants: [])
            party.send(Tensor(bytes: Array(text.utf8)), subject(.shape), from: 0, to: seat)
            follower = seat
            sent = 0
        }
        while sent < count {
            let end = min(count, sent + Self.framesPerMessage)
            // A copy: the clip is still being written.
            party.send(clip.rows(sent..<end).copied(), subject(.frames, tag: sent), from: 0, to: seat)
            sent = end
        }
    }

    /// Lets the follower go once it has everything.
    package func finish() { party?.leaveAfterSending() }

    /// Lets the follower go at once: there will be no clip.
    package func abandon() { party?.leave() }

    private func subject(_ kind: FrameSubject, tag: Int = 0) -> AssistanceSubject {
        AssistanceSubject(round: round, kind: kind.rawValue, tag: tag)
    }
}

/// The follower's end.
package final class FrameReceiver {
    private let assistance: StageAssistance
    private var round = 0
    private var shape = ClipShape(frames: 0, height: 0, width: 0)
    private var received = 0

    /// A chunk may take its maker any time; whether it lives is known from its pulse.
    private static let patience = Duration.seconds(30 * 86_400)

    package init(_ assistance: StageAssistance) { self.assistance = assistance }

    /// Waits for the beginning of a clip.
    ///
    /// - Throws: `cancelled`; `assistance_ended` when there will be no other; `parameters_invalid`.
    package func nextClip() throws(Failure) -> ClipShape {
        let (round, message) = try assistance.party.nextRound(after: round, kind: FrameSubject.shape.rawValue) {
            () throws(Failure) in try assistance.checkCancelled()
        }
        self.round = round
        received = 0
        let text = message.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        shape = try CanonicalJSON.decode(ClipShape.self, from: text)
        guard shape.isSound else { throw Self.misfit("a clip of \(shape)") }
        return shape
    }

    /// Waits for the next frames `[t, H, W, 3]`, uint8; nil after the last.
    ///
    /// - Throws: as `nextClip`; `assistance_round_over` when the clip has been begun again.
    package func nextFrames() throws(Failure) -> Tensor? {
        guard received < shape.frames else { return nil }
        let subject = AssistanceSubject(round: round, kind: FrameSubject.frames.rawValue, tag: received)
        let bytes = try assistance.party.receive(subject, from: 0, patience: Self.patience) {
            () throws(Failure) in try assistance.checkCancelled()
        }
        let count = bytes.count / shape.bytesPerFrame
        guard count > 0, bytes.count == count * shape.bytesPerFrame, received + count <= shape.frames else {
            throw Self.misfit("\(bytes.count) bytes after frame \(received) of \(shape)")
        }
        received += count
        return bytes.reshaped([count, shape.height, shape.width, 3])
    }

    private static func misfit(_ what: String) -> Failure {
        Failure(
            "parameters_invalid", "The worker that is followed sent \(what).", remedy: "Run workers of one version.")
    }
}
