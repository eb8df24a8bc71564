import Bus
import Dispatch
import Failure
import Runtime
import Tensor
import Testing
import Wire

@Suite("Workers on one task", .timeLimit(.minutes(1)))
struct AssistanceTests {
    private let kind = 3

    private func open(_ cell: Cell) async throws -> (server: DataServer, location: Location) {
        let server = DataServer(loop: cell.loop, session: .random(), source: LyingSource(tensor: pattern(1)))
        _ = try await server.bind(cell.ipc("data.sock"), insecure: false)
        return (server, .ipc(host: cell.runDirectory.hostIdentity, socket: "data.sock"))
    }

    private func join(_ cell: Cell, _ location: Location, _ secret: [UInt8]) async throws -> AssistanceLink {
        let client = DataClient(loop: cell.loop, session: .random(), runDirectory: cell.runDirectory)
        return try await client.join(
            AssistOrder(
                lease: Lease(task: TaskID(job: "j", name: "t"), fence: 1), stage: "s", model: "", leader: "l",
                locations: [location], secret: secret))
    }

    private func subject(_ tag: Int, round: Int = 1) -> AssistanceSubject {
        AssistanceSubject(round: round, kind: kind, tag: tag)
    }

    /// Waits on a thread of its own, as a stage does.
    private func receive(_ party: AssistanceParty, _ subject: AssistanceSubject, from seat: Int) async throws -> Tensor
    {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                do throws(Failure) {
                    continuation.resume(
                        returning: try party.receive(subject, from: seat, patience: .seconds(20)) {
                            () throws(Failure) in
                        })
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }

    @Test("messages of several pieces go both ways, and from assistant to assistant through the leader")
    func messages() async throws {
        try await Cell.run { cell in
            let (server, location) = try await open(cell)
            let (secret, leader) = await server.host()
            let first = try await join(cell, location, secret)
            await server.gather(1, for: leader, patience: .seconds(10))
            let second = try await join(cell, location, secret)
            await server.gather(2, for: leader, patience: .seconds(10))
            #expect(leader.assistants == [1, 2])
            leader.begin(round: 1, assistants: [1, 2])
            let big = pattern(5 << 20), small = pattern(3, seed: 2)
            leader.send(big, subject(1), from: 0, to: 1)
            leader.send(small, subject(1), from: 0, to: 2)
            #expect(bytes(try await receive(first.party, subject(1), from: 0)) == bytes(big))
            #expect(bytes(try await receive(second.party, subject(1), from: 0)) == bytes(small))
            // The later message first: whoever waits names what it waits for.
            first.party.send(small, subject(2), from: 1, to: 2)
            first.party.send(big, subject(3), from: 1, to: 2)
            #expect(bytes(try await receive(second.party, subject(3), from: 1)) == bytes(big))
            #expect(bytes(try await receive(second.party, subject(2), from: 1)) == bytes(small))
            second.party.send(Tensor(bytes: []), subject(4), from: 2, to: 0)
            #expect(try await receive(leader, subject(4), from: 2).count == 0)
            #expect(leader.sentBytes == big.byteCount + small.byteCount)
            leader.leave()
            await expectFailure("assistance_ended") { try await receive(first.party, subject(5), from: 0) }
            await first.close(afterSending: false)
            await second.close(afterSending: false)
        }
    }

    @Test("a leader that leaves after sending says so when everything has arrived, and takes nobody in any more")
    func leavesAfterSending() async throws {
        try await Cell.run { cell in
            let (server, location) = try await open(cell)
            let (secret, leader) = await server.host()
            let follower = try await join(cell, location, secret)
            await server.gather(1, for: leader, patience: .seconds(10))
            leader.begin(round: 1, assistants: [])
            // Many times what a socket takes at once.
            let big = pattern(24 << 20)
            for tag in 1...3 { leader.send(big, subject(tag), from: 0, to: 1) }
            #expect(leader.unsentBytes > 0)
            leader.leaveAfterSending()
            let late = try await join(cell, location, secret)
            await expectFailure("assistance_unknown") { try await receive(late.party, subject(1), from: 0) }
            for tag in 1...3 {
                #expect(bytes(try await receive(follower.party, subject(tag), from: 0)) == bytes(big))
            }
            await expectFailure("assistance_ended") { try await receive(follower.party, subject(4), from: 0) }
            #expect(leader.unsentBytes == 0)
            await follower.close(afterSending: false)
            await late.close(afterSending: false)
            // Nobody there: it is over at once.
            let (other, alone) = await server.host()
            alone.leaveAfterSending()
            let nobody = try await join(cell, location, other)
            await expectFailure("assistance_unknown") { try await receive(nobody.party, subject(1), from: 0) }
            await nobody.close(afterSending: false)
        }
    }

    @Test("who does not know the secret gets no seat, and who has none is not heard")
    func secrets() async throws {
        try await Cell.run { cell in
            let (server, location) = try await open(cell)
            let (_, leader) = await server.host()
            let stranger = try await join(cell, location, [UInt8](repeating: 7, count: 32))
            await expectFailure("assistance_unknown") { try await receive(stranger.party, subject(1), from: 0) }
            #expect(leader.assistants.isEmpty)
            #expect(await server.statistics.refusedTickets == 1)
            await stranger.close(afterSending: false)
            leader.leave()
        }
    }

    @Test("a lost assistant ends the round of all; the next one goes on without it")
    func lost() async throws {
        try await Cell.run { cell in
            let (server, location) = try await open(cell)
            let (secret, leader) = await server.host()
            let first = try await join(cell, location, secret)
            await server.gather(1, for: leader, patience: .seconds(10))
            let second = try await join(cell, location, secret)
            await server.gather(2, for: leader, patience: .seconds(10))
            leader.begin(round: 1, assistants: [1, 2])
            leader.send(pattern(9), subject(0), from: 0, to: 2)
            _ = try await receive(second.party, subject(0), from: 0)
            // The process is gone, without a word.
            await first.close(afterSending: false)
            await expectFailure("assistant_lost") { try await receive(leader, subject(1), from: 2) }
            #expect(leader.assistants == [2] && leader.lost.keys.sorted() == [1])
            leader.begin(round: 2, assistants: [2])
            leader.send(pattern(10), subject(0, round: 2), from: 0, to: 2)
            await expectFailure("assistance_round_over") { try await receive(second.party, subject(7), from: 1) }
            #expect(try await receive(second.party, subject(0, round: 2), from: 0).count == 10)
            // What is late for the first round harms nobody.
            second.party.send(pattern(4), subject(1), from: 2, to: 0)
            second.party.send(pattern(5), subject(1, round: 2), from: 2, to: 0)
            #expect(try await receive(leader, subject(1, round: 2), from: 2).count == 5)
            second.party.leave("memory_insufficient", "too little")
            await expectFailure("assistant_lost") { try await receive(leader, subject(2, round: 2), from: 2) }
            #expect(leader.lost[2]?.code == "memory_insufficient")
            leader.leave()
            await second.close(afterSending: false)
        }
    }

    @Test("an assistant whose leader's socket is gone hears of it, and one that cannot reach it says so")
    func leaderGone() async throws {
        try await Cell.run { cell in
            let (server, location) = try await open(cell)
            let (secret, leader) = await server.host()
            let assistant = try await join(cell, location, secret)
            await server.gather(1, for: leader, patience: .seconds(10))
            await server.close()
            await expectFailure("assistance_ended") { try await receive(assistant.party, subject(1), from: 0) }
            await expectFailure("bus_closed") { try await receive(leader, subject(1), from: 1) }
            await assistant.close(afterSending: false)
            await expectFailure("assistance_unreachable") { try await join(cell, location, secret) }
        }
    }

    @Test("waiting ends when the caller wants it to, and when its patience does")
    func stops() throws {
        let (leader, _) = AssistanceParty.pair()
        leader.begin(round: 1, assistants: [1])
        let cancelled = #expect(throws: Failure.self) {
            try leader.receive(subject(1), from: 1) { () throws(Failure) in throw Failure("cancelled", "enough") }
        }
        #expect(cancelled?.code == "cancelled")
        let silent = #expect(throws: Failure.self) {
            try leader.receive(subject(1), from: 1, patience: .zero) { () throws(Failure) in }
        }
        #expect(silent?.code == "assistant_silent" && leader.assistants.isEmpty)
    }
}
