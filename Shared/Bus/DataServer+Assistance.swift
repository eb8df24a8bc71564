import Failure
import Logging
import Wire

/// The workers on a task that is led from here.
struct HostedParty {
    struct Seat {
        let peer: PeerID
        var queue: [(part: AssistPart, payload: Frame)] = []
        var isParked = false
        var lastHeard = ContinuousClock.now
    }

    let party: AssistanceParty
    var seats: [Int: Seat] = [:]
    var nextSeat = 1
    /// What is said once nothing waits any more.
    var lastWord: AssistEnd?
}

// The leader's end of an assistance: assistants come over the data socket, and what one of them has for another passes
// through here.
extension DataServer {
    /// How often both ends say that they are there, and after how much silence nobody believes it any more.
    static let pulseInterval = Duration.milliseconds(500)
    static let pulsePatience = Duration.seconds(10)

    /// Opens a party for whoever brings its secret; it ends with `AssistanceParty.leave`.
    package func host() -> (secret: [UInt8], party: AssistanceParty) {
        let secret = Secrets.random(), loop = loop
        let party = AssistanceParty(isLeader: true) { order in
            loop.post { self.assumeIsolated { $0.perform(order, secret) } }
        }
        parties[secret] = HostedParty(party: party)
        if parties.count == 1 { schedulePulse() }
        return (secret, party)
    }

    /// Waits until `count` assistants have come, or for `patience`.
    package func gather(_ count: Int, for party: AssistanceParty, patience: Duration) async {
        let deadline = ContinuousClock.now + patience
        while party.assistants.count < count, .now < deadline, !Task.isCancelled {
            await withCheckedContinuation { continuation in
                _ = loop.reactor.schedule(after: .milliseconds(10)) { continuation.resume() }
            }
        }
    }

    private func perform(_ order: AssistanceParty.Order, _ secret: [UInt8]) {
        guard parties[secret] != nil else { return }
        switch order {
        case .send(let part, let tensor): enqueue(part, tensor, secret)
        case .end(let end): close(secret, end)
        case .endAfterSending(let end):
            parties[secret]?.lastWord = end
            closeIfSent(secret)
        }
    }

    private func close(_ secret: [UInt8], _ end: AssistEnd) {
        guard let hosted = parties.removeValue(forKey: secret) else { return }
        for seat in hosted.seats.values {
            reply(.assistEnd(end), to: TransferKey(peer: seat.peer, sequence: 0))
            seatedPeers[seat.peer] = nil
        }
    }

    private func closeIfSent(_ secret: [UInt8]) {
        guard let hosted = parties[secret], let end = hosted.lastWord,
            hosted.seats.values.allSatisfy(\.queue.isEmpty)
        else { return }
        close(secret, end)
    }

    private func enqueue(_ whole: AssistPart, _ tensor: PinnedTensor, _ secret: [UInt8]) {
        let seat = Int(whole.to)
        guard parties[secret]?.seats[seat] != nil else {
            parties[secret]?.party.noteLeft(tensor.count)
            return
        }
        for (part, payload) in AssistPart.pieces(of: tensor, whole) {
            parties[secret]?.seats[seat]?.queue.append((part, payload))
        }
        pump(seat, secret)
    }

    private func pump(_ number: Int, _ secret: [UInt8]) {
        while let seat = parties[secret]?.seats[number], !seat.isParked, let next = seat.queue.first {
            switch reply(.assistPart(next.part), to: TransferKey(peer: seat.peer, sequence: 0), payload: next.payload) {
            case .sent:
                parties[secret]?.seats[number]?.queue.removeFirst()
                if next.part.from == 0 { parties[secret]?.party.noteLeft(Int(next.part.length)) }
            case .unreachable: lose(number, secret, Failure("connection_lost", "its connection is gone"))
            case .full:
                parties[secret]?.seats[number]?.isParked = true
                loop.reactor.schedule(after: DataServer.retryDelay) {
                    self.assumeIsolated {
                        $0.parties[secret]?.seats[number]?.isParked = false
                        $0.pump(number, secret)
                    }
                }
            }
        }
        closeIfSent(secret)
    }

    private func lose(_ number: Int, _ secret: [UInt8], _ reason: Failure) {
        guard let seat = parties[secret]?.seats.removeValue(forKey: number) else { return }
        seatedPeers[seat.peer] = nil
        let unsent = seat.queue.reduce(0) { $1.part.from == 0 ? $0 + Int($1.part.length) : $0 }
        parties[secret]?.party.noteLeft(unsent)
        parties[secret]?.party.lose(number, reason)
        closeIfSent(secret)
        logger.warning("assistant \(number) is gone: \(reason.code): \(reason.message)")
    }

    // MARK: What assistants say

    func handleAssistance(_ message: Message, _ parts: ReceivedParts, _ key: TransferKey) {
        if case .assistJoin(let secret) = message { return admit(secret, key) }
        guard let (secret, number) = seatedPeers[key.peer] else { return }
        parties[secret]?.seats[number]?.lastHeard = .now
        switch message {
        case .assistPart(let part): relay(part, parts[2], number, secret)
        case .assistEnd(let end): lose(number, secret, Failure(end.code, end.message))
        default: break
        }
    }

    private func admit(_ secret: [UInt8], _ key: TransferKey) {
        guard let hosted = parties[secret], hosted.lastWord == nil, hosted.seats.count < Limits.membersPerTask,
            seatedPeers[key.peer] == nil
        else {
            counted.refusedTickets += 1
            let refusal = Failure("assistance_unknown", "nobody is awaited here under this secret")
            reply(.error(ErrorReply(refusal)), to: key)
            return
        }
        let number = hosted.nextSeat
        parties[secret]?.nextSeat += 1
        parties[secret]?.seats[number] = HostedParty.Seat(peer: key.peer)
        seatedPeers[key.peer] = (secret, number)
        hosted.party.join(number)
    }

    private func relay(_ part: AssistPart, _ payload: UnsafeRawBufferPointer, _ number: Int, _ secret: [UInt8]) {
        guard Int(part.from) == number, part.isIntact(payload) else {
            return lose(number, secret, Failure("malformed", "it sent a piece that does not fit", retry: .otherWorker))
        }
        if part.to != 0 {
            parties[secret]?.seats[Int(part.to)]?.queue.append((part, .bytes(Array(payload))))
            return pump(Int(part.to), secret)
        }
        if parties[secret]?.party.deliver(part, payload) == false {
            lose(number, secret, Failure("malformed", "it sent a message that nobody awaits", retry: .otherWorker))
        }
    }

    // MARK: Signs of life

    private func schedulePulse() {
        loop.reactor.schedule(after: DataServer.pulseInterval) { self.assumeIsolated { $0.pulse() } }
    }

    private func pulse() {
        let limit = ContinuousClock.now - DataServer.pulsePatience
        for (secret, hosted) in parties {
            for (number, seat) in hosted.seats {
                let outcome = reply(.assistPulse, to: TransferKey(peer: seat.peer, sequence: 0))
                if outcome == .unreachable {
                    lose(number, secret, Failure("connection_lost", "its connection is gone"))
                } else if seat.lastHeard < limit {
                    let reason = "it was not heard for \(DataServer.pulsePatience)"
                    lose(number, secret, Failure("assistant_silent", reason))
                }
            }
        }
        if !parties.isEmpty { schedulePulse() }
    }

    /// The socket is gone, and with it everybody.
    func closeParties() {
        for hosted in parties.values { hosted.party.end(with: Failure("bus_closed", "the data server was closed")) }
        parties = [:]
        seatedPeers = [:]
    }
}

extension AssistPart {
    /// The pieces that a message travels in.
    static func pieces(of tensor: PinnedTensor, _ whole: AssistPart) -> [(part: AssistPart, payload: Frame)] {
        stride(from: 0, to: max(tensor.count, 1), by: Limits.chunkBytes).map { offset in
            let length = min(Limits.chunkBytes, tensor.count - offset)
            var part = whole
            part.offset = UInt64(offset)
            part.length = UInt32(length)
            part.crc = Checksum.crc32c(tensor.slice(offset, length))
            return (part, .pinned(tensor, offset: offset, length: length))
        }
    }

    func isIntact(_ payload: UnsafeRawBufferPointer) -> Bool {
        Int(length) == payload.count && Checksum.crc32c(payload) == crc
    }
}
