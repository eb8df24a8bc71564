import Wire
import Work

// The nemesis: faults that happen at a time of their own.
extension Simulation {
    mutating func scheduleFaults() {
        func draw(_ fault: Fault, _ highest: Int) {
            let times = random.below(highest + 1)
            guard plan[fault] else { return }
            for _ in 0..<times { schedule(.fault(fault), after: random.between(50...Self.faultMilliseconds)) }
        }
        draw(.twoWayPartition, 4)
        draw(.oneWayPartition, 4)
        draw(.dataPartition, 4)
        draw(.lostConnection, 6)
        draw(.workerCrash, 8)
        draw(.workerFreeze, 4)
        draw(.workerRestart, 4)
        draw(.workerDrain, 3)
        draw(.brokerDrain, 2)
        draw(.brokerCrash, 4)
        draw(.brokerFreeze, 3)
        draw(.brokerRestart, 2)
        draw(.fullDisk, 2)
        draw(.tornBlob, 4)
        draw(.lostBlob, 3)
        draw(.evictedBlob, 4)
        draw(.clockJump, 3)
    }

    mutating func strike(_ fault: Fault) {
        let number = random.below(workers.count)
        switch fault {
        case .twoWayPartition:
            let until = now + random.between(200...8000)
            links[number].toBroker = until
            links[number].fromBroker = until
            if random.below(2) == 0 { links[number].data = until }
        case .oneWayPartition:
            let until = now + random.between(200...8000)
            if random.below(2) == 0 { links[number].toBroker = until } else { links[number].fromBroker = until }
        case .dataPartition: links[number].data = now + random.between(200...8000)
        case .lostConnection:
            guard workers[number].isAlive else { return }
            connect(number, false)
            schedule(.connection(number, run: workers[number].run, isUp: true), after: random.between(1...1500))
        case .workerCrash: killWorker(number)
        case .workerFreeze: workers[number].frozenUntil = now + random.between(500...9000)
        case .workerRestart: terminateWorker(number)
        case .workerDrain: administer(Drain(worker: workers[number].hello.worker))
        case .brokerDrain:
            administer(Drain(broker: true))
            resumesAt = now + random.between(500...6000)
        case .brokerCrash: crashBroker()
        case .brokerRestart: crashBroker(losingPower: true)
        case .brokerFreeze:
            let duration = random.between(500...9000)
            broker?.frozenFor = duration
            broker?.frozenUntil = now + duration
        case .fullDisk:
            ledger.isFull = true
            schedule(.freeDisk, after: random.between(200...6000))
        case .clockJump: wallOffset += random.below(2) == 0 ? 86_400_000 : -86_400_000
        case .tornBlob, .lostBlob:
            let contents = store.contents
            guard !contents.isEmpty else { return }
            let content = contents[random.below(contents.count)]
            harmed.insert(content)
            if fault == .tornBlob { store.tear(content) } else { store.remove(content) }
        case .evictedBlob:
            let held = workers[number].frames.sorted { $0.number < $1.number }
            guard !held.isEmpty else { return }
            let content = held[random.below(held.count)]
            harmed.insert(content)
            workers[number].frames.remove(content)
        default: return
        }
        count(fault)
    }

    // MARK: The end of the world

    mutating func checkEnd() {
        for (id, job) in history.jobs.sorted(by: { $0.key < $1.key }) where job.end == nil {
            let tasks = job.tasks.map {
                "\($0.specification.name)\($0.isDone ? " done" : $0.open > 0 ? " leased" : "")"
            }
            history.violate(.liveness, "\(id) never ends: \(tasks.joined(separator: ", "))")
        }
        for (number, client) in clients.enumerated() {
            for (plan, state) in client.progress {
                switch state {
                case .waiting: history.violate(.liveness, "key-\(plan) of client \(number) is never accepted")
                case .accepted(let job): history.violate(.liveness, "client \(number) never hears the end of \(job)")
                case .over: break
                }
            }
        }
        for (id, job) in history.jobs.sorted(by: { $0.key < $1.key }) {
            guard let end = job.end else { continue }
            switch plans[job.plan].nature {
            case .poison, .hopeless:
                if end == .done { history.violate(.containment, "\(id) must not succeed and is DONE") }
            case .ordinary:
                // An upload is nobody's to make again, nor to reach while its holder is cut off.
                if end == .failed, job.code == "input_missing", !job.lacksUpload {
                    history.violate(.remaking, "\(id) failed for the want of an input")
                }
                guard plan.isQuiet else { break }
                if end == .failed, job.code == "deadline_exceeded" { break }
                if end != .done { history.violate(.noWaste, "\(id) is \(end) without any fault: \(job.code)") }
                for task in job.tasks {
                    let name = TaskID(job: id, name: task.specification.name)
                    let asked = history.preempted[name]?.count ?? 0
                    if task.grants != 1 + task.yields || task.yields > asked {
                        history.violate(.noWaste, "\(name) took \(task.grants) leases and made room \(asked) times")
                    }
                }
            }
        }
        guard let broker, broker.turn == nil, history.violations.isEmpty else { return }
        checkFold(broker.state.records)
        let footprint = broker.state.footprint
        if footprint.tasks > 0 || footprint.watches > 0 || footprint.revisions > history.jobs.count
            || footprint.workers > 3 * workers.count
        {
            history.violate(.boundedMemory, "after the end there are \(footprint)")
        }
    }
}
