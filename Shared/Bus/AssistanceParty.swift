import Dispatch
package import Failure
import Synchronization
package import Tensor
import Wire

/// What a message between the workers on one task is about.
package struct AssistanceSubject: Sendable, Hashable {
    package var round: Int
    /// The stage's own numbers: what the message is, and which of those.
    package var kind: Int
    package var tag: Int

    package init(round: Int, kind: Int, tag: Int = 0) {
        self.round = round
        self.kind = kind
        self.tag = tag
    }
}

/// The workers on one task as one of them sees them: seats, of which the leader has 0, and messages from seat to seat.
///
/// Bytes arrive on the bus thread; `receive` waits for them on the thread that computes. A message is never lost while
/// both of its ends live: whoever cannot be reached any more is `lost`, and with it the round.
///
/// ```swift
/// party.begin(round: 1, seats: [0, 1])
/// party.send(rows, AssistanceSubject(round: 1, kind: 3, tag: 7), to: 1)
/// let theirs = try party.receive(AssistanceSubject(round: 1, kind: 4, tag: 7), from: 1) { try task.checkCancelled() }
/// ```
package final class AssistanceParty: Sendable {
    private struct Place: Hashable {
        var subject: AssistanceSubject
        var from: Int
    }

    private struct Partial {
        var bytes: Tensor
        var filled: Int
    }

    private struct State {
        var arrived: [Place: Tensor] = [:]
        var partial: [Place: Partial] = [:]
        var waitingBytes = 0
        var seats: Set<Int> = []
        var lost: [Int: Failure] = [:]
        var round = 0
        /// Of the present round, whose loss ends it.
        var members: Set<Int> = []
        var end: Failure?
        var sentBytes = 0
        var unsentBytes = 0
    }

    /// What the way to another seat is asked to do, on any thread.
    enum Order: Sendable {
        case send(AssistPart, PinnedTensor)
        case end(AssistEnd)
        /// The same, once everything before has left.
        case endAfterSending(AssistEnd)
    }

    /// Our own.
    package let isLeader: Bool
    private let state = Mutex(State())
    private let arrival = DispatchSemaphore(value: 0)
    private let perform: @Sendable (Order) -> Void

    /// What may wait here for the thread that computes, in bytes.
    private static let waitingLimit = 4 << 30
    /// How often somebody who waits looks whether it should go on.
    private static let look = DispatchTimeInterval.milliseconds(100)

    init(isLeader: Bool, perform: @escaping @Sendable (Order) -> Void) {
        self.isLeader = isLeader
        self.perform = perform
    }

    /// Two ends of a party of two in one process, for tests of stages: the leader's, and that of seat 1.
    package static func pair() -> (leader: AssistanceParty, assistant: AssistanceParty) {
        let ends = Mutex<(AssistanceParty?, AssistanceParty?)>((nil, nil))
        @Sendable func carry(_ order: Order, toLeader: Bool) {
            guard let target = ends.withLock({ toLeader ? $0.0 : $0.1 }) else { return }
            switch order {
            case .send(var part, let bytes):
                part.length = UInt32(bytes.count)
                if !toLeader { ends.withLock { $0.0 }?.noteLeft(bytes.count) }
                target.deliver(part, bytes.slice(0, bytes.count))
            case .end(let end), .endAfterSending(let end):
                let failure = Failure(end.code, end.message)
                if toLeader { target.lose(1, failure) } else { target.end(with: failure) }
            }
        }
        let leader = AssistanceParty(isLeader: true) { carry($0, toLeader: false) }
        let assistant = AssistanceParty(isLeader: false) { carry($0, toLeader: true) }
        ends.withLock { $0 = (leader, assistant) }
        leader.join(1)
        return (leader, assistant)
    }

    // MARK: For the stage

    /// The assistants that are there, in a fixed order.
    package var assistants: [Int] { state.withLock { $0.seats.subtracting($0.lost.keys).sorted() } }

    /// Why each of the others is gone.
    package var lost: [Int: Failure] { state.withLock { $0.lost } }

    /// Bytes of the messages sent so far.
    package var sentBytes: Int { state.withLock { $0.sentBytes } }

    /// Leader: bytes of messages that wait here for their way to assistants.
    package var unsentBytes: Int { state.withLock { $0.unsentBytes } }

    /// Leader: begins another attempt with these assistants; what belonged to earlier ones is forgotten.
    package func begin(round: Int, assistants: [Int]) {
        state.withLock { state in
            Self.advance(&state, to: round)
            state.members = Set(assistants)
        }
    }

    /// Sends the tensor's bytes; it must not be written afterwards.
    package func send(_ tensor: Tensor, _ subject: AssistanceSubject, from: Int, to seat: Int) {
        state.withLock { state in
            state.sentBytes += tensor.byteCount
            if isLeader { state.unsentBytes += tensor.byteCount }
        }
        let part = AssistPart(
            round: UInt32(clamping: subject.round), from: UInt32(clamping: from), to: UInt32(clamping: seat),
            kind: UInt32(clamping: subject.kind), tag: UInt32(clamping: subject.tag),
            total: UInt64(tensor.byteCount))
        perform(.send(part, PinnedTensor(tensor)))
    }

    /// Waits for a message and takes it: its bytes, uint8.
    ///
    /// - Parameters:
    ///   - patience: how long that may take. Whoever computes may take its time, so it is long.
    ///   - check: asked ten times a second; may throw to stop.
    /// - Throws: what `check` throws; `assistant_lost` (leader), `assistance_ended` (assistant), `assistance_round_over`
    ///   when another attempt has begun, `assistant_silent` after the patience.
    package func receive(
        _ subject: AssistanceSubject, from seat: Int, patience: Duration = .seconds(900),
        check: () throws(Failure) -> Void
    ) throws(Failure) -> Tensor {
        let place = Place(subject: subject, from: seat), start = ContinuousClock.now
        while true {
            try check()
            switch look(for: place) {
            case .success(let tensor?): return tensor
            case .success(nil): break
            case .failure(let failure): throw failure
            }
            guard start.duration(to: .now) < patience else {
                let failure = Failure(
                    "assistant_silent", "seat \(seat) sent nothing for \(patience)", retry: .otherWorker)
                if isLeader { lose(seat, failure) }
                throw failure
            }
            _ = arrival.wait(timeout: .now() + Self.look)
        }
    }

    /// Assistant: waits for the order of a round after `round` and takes it; as `receive`.
    package func nextRound(
        after round: Int, kind: Int, check: () throws(Failure) -> Void
    ) throws(Failure) -> (round: Int, order: Tensor) {
        while true {
            try check()
            let found = state.withLock { state -> Result<(Int, Tensor)?, Failure> in
                let next = state.round
                if next > round {
                    let place = Place(subject: AssistanceSubject(round: next, kind: kind), from: 0)
                    if let order = Self.take(place, from: &state) { return .success((next, order)) }
                }
                if let end = state.end { return .failure(end) }
                return .success(nil)
            }
            switch found {
            case .success(let order?): return order
            case .success(nil): break
            case .failure(let failure): throw failure
            }
            _ = arrival.wait(timeout: .now() + Self.look)
        }
    }

    /// Tells the others that it is over (`assistance_over`), or why we leave.
    package func leave(_ code: String = "assistance_over", _ message: String = "") {
        perform(.end(AssistEnd(code: code, message: message)))
    }

    /// Leader: as `leave`, but what was sent before arrives first, however long that takes.
    package func leaveAfterSending(_ code: String = "assistance_over") {
        perform(.endAfterSending(AssistEnd(code: code, message: "")))
    }

    private func look(for place: Place) -> Result<Tensor?, Failure> {
        state.withLock { state in
            if let tensor = Self.take(place, from: &state) { return .success(tensor) }
            if let end = state.end { return .failure(end) }
            if place.subject.round < state.round {
                return .failure(
                    Failure("assistance_round_over", "round \(state.round) has begun", retry: .otherWorker))
            }
            if let seat = state.members.intersection(state.lost.keys).min(), let reason = state.lost[seat] {
                return .failure(
                    Failure(
                        "assistant_lost", "assistant \(seat) is gone: \(reason.code): \(reason.message)",
                        retry: .otherWorker))
            }
            return .success(nil)
        }
    }

    private static func take(_ place: Place, from state: inout State) -> Tensor? {
        guard let tensor = state.arrived.removeValue(forKey: place) else { return nil }
        state.waitingBytes -= tensor.byteCount
        return tensor
    }

    private static func advance(_ state: inout State, to round: Int) {
        guard round > state.round else { return }
        state.round = round
        state.arrived = [:]
        state.partial = [:]
        state.waitingBytes = 0
    }

    // MARK: For the bus

    /// Takes in a piece of a message for our seat. False when it does not fit: its sender is not one of us.
    @discardableResult
    func deliver(_ part: AssistPart, _ payload: UnsafeRawBufferPointer) -> Bool {
        let subject = AssistanceSubject(round: Int(part.round), kind: Int(part.kind), tag: Int(part.tag))
        let place = Place(subject: subject, from: Int(part.from)), total = Int(part.total)
        let fits = state.withLock { state -> Bool in
            // The leader decides about rounds; to everybody else a new one comes as news.
            if !isLeader { Self.advance(&state, to: subject.round) }
            guard subject.round == state.round else { return true }
            if state.partial[place] == nil {
                guard part.offset == 0, state.arrived[place] == nil,
                    state.waitingBytes + total <= Self.waitingLimit
                else { return false }
                state.waitingBytes += total
                state.partial[place] = Partial(bytes: Tensor(uninitialized: [total], dtype: .uint8), filled: 0)
            }
            guard var partial = state.partial.removeValue(forKey: place) else { return false }
            guard partial.filled == Int(part.offset), partial.bytes.count == total,
                partial.filled + payload.count <= total, payload.count > 0 || total == 0
            else { return false }
            partial.bytes.withUnsafeMutableBytes { target in
                UnsafeMutableRawBufferPointer(rebasing: target[partial.filled..<partial.filled + payload.count])
                    .copyMemory(from: payload)
            }
            partial.filled += payload.count
            if partial.filled == total {
                state.arrived[place] = partial.bytes
            } else {
                state.partial[place] = partial
            }
            return true
        }
        arrival.signal()
        return fits
    }

    /// Leader: so many bytes wait no longer.
    func noteLeft(_ bytes: Int) { state.withLock { $0.unsentBytes -= bytes } }

    func join(_ seat: Int) {
        state.withLock { _ = $0.seats.insert(seat) }
        arrival.signal()
    }

    func lose(_ seat: Int, _ reason: Failure) {
        state.withLock { if $0.lost[seat] == nil { $0.lost[seat] = reason } }
        arrival.signal()
    }

    func end(with reason: Failure) {
        state.withLock { if $0.end == nil { $0.end = reason } }
        arrival.signal()
    }
}
