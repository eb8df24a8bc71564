import Failure
import Wire
import Work

/// A message that wants an answer.
struct Question: Hashable {
    var session: SessionID
    var sequence: UInt64
}

/// One run of the broker's process. A class, so that its records have one owner and are changed in place.
final class BrokerProcess {
    /// Where in its turn the process dies.
    enum CrashPoint: Int, CaseIterable { case beforeCommit, insideCommit, afterCommit, betweenSends }

    var state: BrokerState
    let epoch: UInt64
    /// What this host's boot clock shows at simulated time 0.
    let boot: UInt64
    var sequence: UInt64 = 0
    var inbox: [BrokerEvent] = []
    /// The turn whose commit is on its way to the disk.
    var turn: BrokerTurn?
    var writing: [LedgerEntry] = []
    var crashPoint: CrashPoint?
    /// Who asked in the present turn and has no answer yet, with the tenant of a submission.
    var unanswered: [Question: String] = [:]
    /// Blobs that somebody has brought since the present turn was decided.
    var brought: Set<Digest> = []
    var frozenUntil: UInt64 = 0
    var frozenFor: UInt64 = 0
    var nextProbeAt: UInt64 = 0

    init(state: BrokerState, epoch: UInt64, boot: UInt64) {
        self.state = state
        self.epoch = epoch
        self.boot = boot
    }
}

// The broker's process: what `BrokerCore` does around the state machine.
extension Simulation {
    static let brokerSession: SessionID = session(99)

    var brokerClock: Instant {
        Instant(
            milliseconds: now + (broker?.boot ?? brokerBoot),
            unixMilliseconds: UInt64(1_700_000_000_000 + Int64(now) + wallOffset))
    }

    mutating func startBroker() {
        guard broker == nil else { return }
        epoch += 1
        let epoch = epoch
        var configuration = BrokerConfiguration(epoch: epoch)
        configuration.beatMilliseconds = Self.beatMilliseconds
        configuration.leaseMilliseconds = Self.leaseMilliseconds
        configuration.minimumStallMilliseconds = 3000
        configuration.stallMilliseconds = 8000
        configuration.maximumBackoffMilliseconds = 4000
        configuration.orphanMilliseconds = 4 * Self.leaseMilliseconds
        configuration.leftoverMilliseconds = 8 * Self.leaseMilliseconds
        configuration.unfinishedJobLimit = shape.jobLimit
        configuration.tenantJobLimit = shape.tenantJobLimit
        configuration.preemptionMilliseconds = 1000
        configuration.deadlineGraceMilliseconds = History.deadlineGrace
        configuration.boot = "\(brokerBoot)"
        let records = ledger.load()
        history.compare(withLedger: records)
        let names = names
        var state = BrokerState(
            configuration: configuration, records: records, startedAt: brokerClock, newJob: { names.next() })
        state.noteStored(store.contents.map(\.digest), now: brokerClock)
        broker = BrokerProcess(state: state, epoch: epoch, boot: brokerBoot)
        note("broker starts with epoch \(epoch), \(records.unfinished.count) unfinished jobs")
        schedule(.brokerTick(epoch: epoch), after: 100)
        guard epoch > 1 else { return }
        for number in workers.indices
        where workers[number].isAlive && (!workers[number].isConnected || random.below(2) == 0) {
            schedule(.connection(number, run: workers[number].run, isUp: true), after: random.between(5...500))
        }
    }

    /// The process dies now; what it had in memory is gone.
    mutating func crashBroker(losingPower: Bool = false) {
        guard broker != nil else { return }
        note("broker dies")
        broker = nil
        if losingPower {
            brokerBoot = random.below(1_000_000 as UInt64)
            history.rebootedAt = now
        }
        if !rules.commitsAreDurable { ledger.cutPower(random: &random) }
        if !rules.blobsAreFlushed {
            for content in store.contents where (store[content]?.storedAt ?? 0) + 2000 > now && random.below(2) == 0 {
                harmed.insert(content)
                store.tear(content)
            }
        }
        if !ledger.ghosts.isEmpty, random.below(2) == 0 {
            count(.ghostCommit)
            for entry in ledger.awakenGhosts() { history.apply(entry, plans: plans) }
        }
        for number in workers.indices where workers[number].isAlive && random.below(2) == 0 {
            schedule(.connection(number, run: workers[number].run, isUp: false), after: random.between(1...300))
        }
        schedule(.startBroker, after: random.between(100...5000))
    }

    // MARK: The inbox

    /// - Parameter isNew: false for what has waited through a freeze, and counts since it came.
    mutating func arrive(_ envelope: Envelope, isNew: Bool) {
        guard let broker else {
            // What waits in the sender's queue comes with the next connection, or is lost with the old one.
            if random.below(2) == 0 { schedule(.toBroker(envelope), after: random.between(200...2000)) }
            return
        }
        // A third of a lease is the broker's own: what waits through a shorter freeze counts from when it is heard.
        let isFrozen = broker.frozenUntil > now
        let counts = isNew && (!isFrozen || broker.frozenFor > Self.leaseMilliseconds / 3)
        if counts { history.note(arrivalOf: envelope) }
        guard !isFrozen else {
            return queue.push(
                counts || !isNew ? .waitingAtBroker(envelope) : .toBroker(envelope), at: broker.frozenUntil)
        }
        if isTracing { note("→ broker \(envelope.message.short)") }
        enqueue(.received(envelope))
    }

    /// Somebody brings a blob: the broker hears of it before the store looks whether it is there.
    mutating func bring(_ content: Content) {
        guard let broker else { return }
        let digest = content.digest
        broker.brought.insert(digest)
        store.put(content, now: now)
        enqueue(.stored(digest))
    }

    mutating func enqueue(_ event: BrokerEvent) {
        guard let broker else { return }
        broker.inbox.append(event)
        if broker.turn == nil { beginTurn(of: broker) }
    }

    private mutating func beginTurn(of broker: BrokerProcess) {
        while self.broker === broker, broker.turn == nil, !broker.inbox.isEmpty {
            let events = broker.inbox
            broker.inbox.removeAll(keepingCapacity: true)
            broker.brought = []
            broker.unanswered = questions(in: events)
            history.beginTurn()
            var turn = BrokerTurn(events)
            turn.decide(with: &broker.state, now: brokerClock)
            go(on: turn, of: broker)
        }
    }

    // MARK: One turn

    private mutating func go(on given: BrokerTurn, of broker: BrokerProcess) {
        var turn = given
        while let action = turn.next() {
            switch action {
            case .commit(let entries):
                begin(commit: entries, turn, of: broker)
                guard broker.turn == nil, self.broker === broker else { return }
                guard let next = write(entries, turn, of: broker) else { return }
                turn = next
            case .send(let sends):
                let dies = broker.crashPoint == .betweenSends ? random.below(sends.count) : sends.count
                for (index, outgoing) in sends.enumerated() {
                    if index == dies {
                        count(.crashBetweenSends)
                        return crashBroker()
                    }
                    leave(outgoing, broker)
                }
            case .remove(let digests):
                if isHappening(.crashAfterSends), random.below(8) == 0 {
                    count(.crashAfterSends)
                    return crashBroker()
                }
                for digest in digests where !broker.brought.contains(digest) {
                    guard let content = Content(digest) else { continue }
                    note("blob \(content.description) is removed")
                    store.remove(content)
                }
            }
        }
        broker.crashPoint = nil
        if let (question, _) = broker.unanswered.first {
            history.violate(.answers, "message \(question.sequence) of \(question.session) has no answer")
        }
        tidy(broker)
    }

    /// Begins a commit; leaves the turn with the process when the disk takes its time.
    private mutating func begin(commit entries: [LedgerEntry], _ turn: BrokerTurn, of broker: BrokerProcess) {
        if broker.state.readOnlyReason != nil {
            history.violate(.readOnly, "\(entries.map(\.kind)) are decided while the ledger cannot be written")
        }
        history.checkDecision(entries)
        if isFaulty, random.chance(plan.crashInTurn) {
            let points = BrokerProcess.CrashPoint.allCases
            broker.crashPoint = points[random.below(points.count)]
        }
        if broker.crashPoint == .beforeCommit {
            count(.crashBeforeCommit)
            return crashBroker()
        }
        var delay: UInt64 = random.below(8)
        if isHappening(.slowCommit), random.below(400) == 0 {
            count(.slowCommit)
            delay = random.between(500...6000)
        }
        guard delay > 0 else { return }
        broker.turn = turn
        broker.writing = entries
        schedule(.commitDone(epoch: broker.epoch), after: delay)
    }

    mutating func finishCommit(of broker: BrokerProcess) {
        guard let turn = broker.turn else { return }
        let entries = broker.writing
        broker.turn = nil
        broker.writing = []
        if let next = write(entries, turn, of: broker) {
            go(on: next, of: broker)
            beginTurn(of: broker)
        }
    }

    /// The disk's answer to a commit.
    /// - Returns: the turn as it goes on, nil when the process died.
    private mutating func write(_ entries: [LedgerEntry], _ given: BrokerTurn, of broker: BrokerProcess) -> BrokerTurn?
    {
        var turn = given
        if broker.crashPoint == .insideCommit {
            count(.crashWhileCommitting)
            if random.below(2) == 0 { commit(entries) }
            crashBroker()
            return nil
        }
        let fails = isHappening(.failedCommit) && random.below(200) == 0
        if ledger.isFull || fails {
            count(.failedCommit)
            ledger.refuse(entries, leavingGhosts: plan[.ghostCommit] && random.below(2) == 0)
            turn.refused(
                Failure("ledger_full", "no room", retry: .sameWorker), records: ledger.load(), state: &broker.state,
                now: brokerClock)
            return turn
        }
        commit(entries)
        history.compare(entries, with: broker.state.records, limits: (50, 3))
        if broker.crashPoint == .afterCommit {
            count(.crashAfterCommit)
            crashBroker()
            return nil
        }
        return turn
    }

    private mutating func commit(_ entries: [LedgerEntry]) {
        ledger.append(entries, isFlushed: rules.commitsAreDurable)
        for entry in entries {
            if isTracing { note("  disk: \(entry.short)") }
            history.apply(entry, plans: plans)
        }
    }

    /// What follows a turn: compaction, and a look whether the disk takes writes again.
    private mutating func tidy(_ broker: BrokerProcess) {
        if broker.state.readOnlyReason != nil {
            guard now >= broker.nextProbeAt else { return }
            broker.nextProbeAt = now + 1000
            guard !ledger.isFull else { return }
            ledger.probe()
            broker.state.recover(records: ledger.load(), readOnly: nil, now: brokerClock)
            note("the ledger can be written again")
        } else if plan[.compaction], ledger.journal.count >= 40 {
            count(.compaction)
            checkFold(broker.state.records)
            if !broker.state.isIndexInStep {
                history.violate(.foldAgrees, "the index of the broker's work is not what its records say")
            }
            ledger.compact(broker.state.records)
        }
    }

    mutating func checkFold(_ records: Records) {
        guard ledger.load() != records else { return }
        history.violate(.foldAgrees, "the fold of the ledger is not what the broker holds")
    }

    // MARK: Questions

    private func questions(in events: [BrokerEvent]) -> [Question: String] {
        var questions: [Question: String] = [:]
        for case .received(let envelope) in events {
            let question = Question(session: envelope.session, sequence: envelope.sequence)
            switch envelope.message {
            case .submit(let submit): questions[question] = submit.tenant
            case .deadRetry(let retry): questions[question] = history.jobs[retry.job]?.key.tenant ?? ""
            case .query, .watch, .cancel, .deadQuery, .drain: questions[question] = ""
            default: break
            }
        }
        return questions
    }

    private mutating func answer(_ outgoing: Outgoing, _ broker: BrokerProcess) {
        guard outgoing.inReplyTo > 0 else { return }
        let question = Question(session: outgoing.session, sequence: outgoing.inReplyTo)
        guard let tenant = broker.unanswered.removeValue(forKey: question) else { return }
        if case .error(let error) = outgoing.message { history.checkRefusal(error, of: tenant) }
    }

    // MARK: Sending

    private mutating func leave(_ outgoing: Outgoing, _ broker: BrokerProcess) {
        history.checkPromise(outgoing.message)
        answer(outgoing, broker)
        if isTracing { note("← broker \(outgoing.message.short)") }
        broker.sequence += 1
        let whole = Envelope(
            session: Self.brokerSession, sequence: broker.sequence, brokerEpoch: broker.epoch,
            inReplyTo: outgoing.inReplyTo, message: outgoing.message)
        if let number = workers.firstIndex(where: { $0.session == outgoing.session && $0.isAlive }) {
            guard let envelope = pass(whole, from: .broker) else { return }
            transmit(.toWorker(number, run: workers[number].run, envelope), number, .fromBroker)
        } else if let number = clients.firstIndex(where: { $0.session == outgoing.session }) {
            guard let envelope = pass(whole, from: .broker) else { return }
            transmit(.toClient(number, run: clients[number].run, envelope), workers.count + number, .fromBroker)
        } else if random.below(2) == 0 {
            schedule(.unreachable(outgoing.session, epoch: broker.epoch), after: 0)
        }
    }
}

/// 16 times the same byte.
func session(_ number: UInt8) -> SessionID {
    guard let session = SessionID(bytes: [UInt8](repeating: number, count: 16)) else {
        preconditionFailure("a session has 16 bytes")
    }
    return session
}
