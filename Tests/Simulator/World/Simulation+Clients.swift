import Failure
import Wire
import Work

/// A gateway's process after process.
final class ClientProcess {
    enum Progress: Equatable { case waiting, accepted(String), over(String, JobState) }

    var session: SessionID
    var run = 0
    var sequence: UInt64 = 0
    /// The plans it serves, and how far each is.
    var progress: [(plan: Int, state: Progress)] = []
    /// Which plan a message was about, and whether it was sent with another body on purpose.
    var asked: [UInt64: (plan: Int, isForeign: Bool)] = [:]

    init(session: SessionID) { self.session = session }

    var isContent: Bool {
        progress.allSatisfy { if case .over = $0.state { true } else { false } }
    }
}

// The clients: what gateways do for people who retry.
extension Simulation {
    mutating func makePlans() {
        let crowd = Shape.crowd.first + Shape.crowd.others * (shape.tenants - 1)
        for number in 0..<(shape.isCrowded ? crowd : 3 + random.below(4)) {
            let isLong = shape.hasLongTasks && random.below(3) == 0
            let graph = Graph.allCases[random.below(Graph.allCases.count)]
            // Some jobs ask for the same bytes as an earlier one.
            let twin = number > 0 && random.below(6) == 0 ? random.below(number) : nil
            let body = twin.map { plans[$0].body } ?? number
            let upload = graph == .fromImage ? Content(body: body, task: 200, step: 0) : nil
            var steps: UInt32 = isLong ? 24 : 4
            var tasks = graph.specifications(upload: upload, steps: steps)
            var planned = upload
            if let twin {
                tasks = plans[twin].submit.tasks
                planned = plans[twin].upload
                steps = plans[twin].steps
            }
            let submit = Submit(
                idempotencyKey: "key-\(number)", requestDigest: Content(body: body, task: 201, step: 0).digest,
                tenant: tenant(of: number), priority: shape.isCrowded ? 0 : Int32(random.below(3)),
                specification: "{}", tasks: tasks)
            var job = JobPlan(
                submit: submit, nature: .ordinary, body: body,
                beginsAt: random.below(2) == 0 ? 0 : random.below(15_000), upload: planned, steps: steps)
            if shape.isCrowded { job.beginsAt = number < Shape.crowd.first ? 0 : random.below(3000) }
            if shape.hasDeadlines, random.below(2) == 0 {
                job.submit.deadlineMilliseconds = random.between(2000...40_000)
            }
            let dice = random.below(16)
            if dice == 0, plan[.poisonJob] { job.nature = .poison(task: random.below(tasks.count)) }
            if dice == 1, plan[.hopelessJob] { job.nature = .hopeless(task: random.below(tasks.count)) }
            if plan[.cancel], random.below(4) == 0 { job.cancelsAt = random.between(500...30_000) }
            if plan[.cancelRace], random.below(3) == 0 { job.cancelsNearEnd = true }
            plans.append(job)
        }
    }

    /// In a crowded world most jobs are those of the first tenant.
    private func tenant(of number: Int) -> String {
        guard shape.isCrowded else { return "t\(number % shape.tenants)" }
        return number < Shape.crowd.first ? "t0" : "t\(1 + (number - Shape.crowd.first) / Shape.crowd.others)"
    }

    mutating func makeClients() {
        for number in 0..<2 {
            let client = ClientProcess(session: session(UInt8(200 + number)))
            client.progress = plans.indices.filter { $0 % 2 == number }.map { ($0, .waiting) }
            clients.append(client)
        }
    }

    /// An operator's order, by way of the first gateway.
    mutating func administer(_ drain: Drain) { tell(.drain(drain), 0, nil) }

    mutating func clientTurn() {
        if let resumesAt, resumesAt <= now { administer(Drain(broker: true, resume: true)) }
        for number in clients.indices {
            let client = clients[number]
            if isHappening(.gatewayCrash), random.below(60) == 0 {
                count(.gatewayCrash)
                client.run += 1
                client.session = makeSession()
            }
            for index in client.progress.indices { pursue(index, number, client) }
        }
    }

    private mutating func pursue(_ index: Int, _ number: Int, _ client: ClientProcess) {
        let (plan, state) = client.progress[index]
        let wanted = plans[plan]
        guard now >= wanted.beginsAt else { return }
        switch state {
        case .waiting:
            var order = Message.submit(wanted.submit)
            if let dead = wanted.retries {
                order = .deadRetry(DeadRetry(job: dead, idempotencyKey: wanted.submit.idempotencyKey))
            } else if let upload = wanted.upload {
                guard let broker, broker.frozenUntil <= now, !ledger.isFull else { return }
                bring(upload)
            }
            tell(order, number, plan)
            if isHappening(.repeatedSubmit), random.below(4) == 0 {
                for _ in 0..<3 {
                    count(.repeatedSubmit)
                    tell(order, number, plan)
                }
            }
        case .accepted(let job):
            if isHappening(.reusedKey), random.below(30) == 0 {
                count(.reusedKey)
                var other = wanted.submit
                other.requestDigest = Content(body: 99, task: 201, step: 0).digest
                tell(.submit(other), number, plan, isForeign: true)
            }
            let isNearEnd = wanted.cancelsNearEnd && history.jobs[job]?.tasks.last.map { $0.open > 0 } == true
            if wanted.cancelsAt.map({ now >= $0 }) == true || isNearEnd && isFaulty {
                count(isNearEnd ? .cancelRace : .cancel)
                tell(.cancel(job: job), number, plan)
            }
            if shape.isCrowded, random.below(4) > 0 { return }
            let watches = random.below(4) == 0
            tell(watches ? .watch(Watch(job: job, revision: 0)) : .query(Query(job: job)), number, plan)
        case .over(let job, let end):
            guard end == .failed || end == .dead, isHappening(.deadRetry), random.below(4) == 0 else { return }
            bury(job, plan, number, client)
        }
    }

    /// Somebody asks what killed a job, or tries it once more: perhaps what killed it has been repaired.
    private mutating func bury(_ job: String, _ plan: Int, _ number: Int, _ client: ClientProcess) {
        switch random.below(3) {
        case 0: tell(.deadQuery(DeadQuery(job: job)), number, plan)
        case 1: tell(.deadQuery(DeadQuery(job: "", limit: 50)), number, nil)
        default:
            guard plans.count(where: { $0.retries != nil }) < 4 else { return }
            count(.deadRetry)
            var again = plans[plan]
            again.submit.idempotencyKey = "retry-\(plans.count)"
            again.retries = job
            again.beginsAt = now
            again.cancelsAt = nil
            again.submit.deadlineMilliseconds = 0
            if random.below(2) == 0 { again.nature = .ordinary }
            client.progress.append((plans.count, .waiting))
            plans.append(again)
        }
    }

    private mutating func tell(_ message: Message, _ number: Int, _ plan: Int?, isForeign: Bool = false) {
        let client = clients[number]
        client.sequence += 1
        if let plan { client.asked[client.sequence] = (plan, isForeign) }
        let whole = Envelope(session: client.session, sequence: client.sequence, brokerEpoch: 0, message: message)
        if isTracing { note("← client \(number) \(message.short)") }
        guard let envelope = pass(whole, from: .client) else { return }
        transmit(.toBroker(envelope), workers.count + number, .toBroker)
    }

    mutating func hear(_ envelope: Envelope, client number: Int) {
        if isTracing { note("→ client \(number) \(envelope.message.short)") }
        let client = clients[number]
        let question = client.asked[envelope.inReplyTo]
        switch envelope.message {
        case .accepted(let answer):
            guard let question else { return }
            if question.isForeign {
                history.violate(.oneJobPerKey, "another body under a used key is accepted as \(answer.job)")
            }
            guard let index = client.progress.firstIndex(where: { $0.plan == question.plan }) else { return }
            switch client.progress[index].state {
            case .waiting: client.progress[index].state = .accepted(answer.job)
            case .accepted(let known), .over(let known, _):
                if known != answer.job {
                    history.violate(.oneJobPerKey, "key-\(question.plan) is \(known) and \(answer.job)")
                }
            }
        case .status(let page): for status in page.jobs { learn(status.job, status.state, client) }
        case .event(let status): learn(status.job, status.state, client)
        case .draining(let answer): if answer.broker == false, answer.workers.isEmpty { resume() }
        case .cancelOutcome(let outcome): learn(outcome.job, outcome.state, client)
        case .deadPage(let page):
            // A deadline passes whatever the tasks do.
            let lacksEvidence = page.jobs.contains { $0.incidents.isEmpty && $0.errorCode != "deadline_exceeded" }
            if question != nil, page.jobs.count != 1 || lacksEvidence {
                history.violate(.evidence, "key-\(question?.plan ?? 0) has no evidence: \(page.jobs)")
            }
        case .error(let error):
            // Better late than never.
            if error.code == "deadline_unreachable", let question {
                plans[question.plan].submit.deadlineMilliseconds = 0
            }
            if error.code == "job_not_dead" { history.violate(.truth, "a client thought otherwise: \(error.message)") }
            if error.code == "job_not_found" {
                history.violate(.durability, "a client's job is gone: \(error.message)")
            }
        default: break
        }
    }

    /// An order that was on its way for long may still come: once the faults are over the operator makes sure.
    private mutating func resume() {
        resumesAt = now < Self.faultMilliseconds + 5000 ? Self.faultMilliseconds + 5000 : nil
    }

    private mutating func learn(_ job: String, _ state: JobState, _ client: ClientProcess) {
        guard state.isTerminal else { return }
        guard
            let index = client.progress.firstIndex(where: {
                if case .accepted(job) = $0.state { return true }
                if case .over(job, _) = $0.state { return true }
                return false
            })
        else { return }
        if case .over(_, let known) = client.progress[index].state, known != state {
            history.violate(.truth, "a client was told \(known) of \(job), then \(state)")
        }
        client.progress[index].state = .over(job, state)
    }
}
