import Failure
import Wire
import Work

/// Which ways to and from a worker (or a client) are cut, and until when.
struct Link {
    var toBroker: UInt64 = 0
    var fromBroker: UInt64 = 0
    /// The data plane: the broker's store and the other workers.
    var data: UInt64 = 0
    /// When the newest message of each direction arrives, where connections keep the order.
    var newestAtBroker: UInt64 = 0
    var newestFromBroker: UInt64 = 0
}

/// Job identifiers that count up.
final class JobNames: Sendable {
    private let count = Counter()

    func next() -> String { "job-\(count.next())" }
}

extension Simulation {
    /// Whether connections deliver in order, as TCP does; the others stand for reconnections at any moment.
    var isOrdered: Bool { !plan[.delay] && !plan[.duplicate] }

    enum Way { case toBroker, fromBroker }

    /// Sends over link `number`.
    mutating func transmit(_ action: consuming Action, _ number: Int, _ way: Way) {
        let blockedUntil = way == .toBroker ? links[number].toBroker : links[number].fromBroker
        if isFaulty, blockedUntil <= now, !isOrdered { return disturb(action) }
        // A short cut only delays what TCP sends again; a long one loses it.
        if isFaulty, blockedUntil > now, random.below(2) == 0 { return }
        if isFaulty, random.below(10_000) < plan.drop { return count(.drop) }
        let arrival = max(now, blockedUntil) + random.between(1...(isFaulty ? 60 : 20))
        guard isOrdered else { return queue.push(action, at: arrival) }
        if way == .toBroker {
            links[number].newestAtBroker = max(arrival, links[number].newestAtBroker)
            queue.push(action, at: links[number].newestAtBroker)
        } else {
            links[number].newestFromBroker = max(arrival, links[number].newestFromBroker)
            queue.push(action, at: links[number].newestFromBroker)
        }
    }

    private mutating func disturb(_ action: Action) {
        let dice = random.below(10_000)
        if dice < plan.drop { return count(.drop) }
        if dice < plan.drop + plan.duplicate {
            count(.duplicate)
            schedule(action, after: random.between(1...2000))
        }
        if dice >= 10_000 - plan.delay {
            count(.delay)
            schedule(action, after: random.between(60...4000))
        } else {
            schedule(action, after: random.between(1...60))
        }
    }

    /// In some worlds every message goes through its bytes.
    /// - Returns: what the receiver understands; nil when it drops the frame.
    mutating func pass(_ envelope: Envelope, from role: Role) -> Envelope? {
        guard usesCodec else { return envelope }
        do throws(Failure) {
            var frame = try EnvelopeCodec.encode(envelope)
            if isHappening(.damagedFrame), random.below(50) == 0 {
                count(.damagedFrame)
                let bit = random.below(frame.count * 8)
                frame[bit / 8] ^= 1 << UInt8(bit % 8)
                if (try? EnvelopeCodec.decode(frame, from: role)) != nil {
                    history.violate(.frames, "a \(envelope.message.messageKind) with bit \(bit) flipped is understood")
                }
                return nil
            }
            let understood = try EnvelopeCodec.decode(frame, from: role)
            if understood != envelope {
                history.violate(.frames, "\(envelope.message.messageKind) arrives as something else")
            }
            return understood
        } catch {
            history.violate(.frames, "\(envelope.message.messageKind) does not pass: \(error)")
            return nil
        }
    }
}
