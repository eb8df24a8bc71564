extension WorkerList {
    /// What `zoetrope drain --list` and `zoetrope status --workers` print. Names come from others and leave without
    /// characters that a terminal would obey.
    package var lines: [String] {
        var lines: [String] = []
        for worker in data {
            let state = worker.draining ? "draining" : worker.busy > 0 ? "busy" : "idle"
            let load = "\(worker.busy)/\(worker.slots)"
            lines.append("\(worker.name)  \(worker.stages.joined(separator: ","))  \(load)  \(state)")
            if let warm = worker.warm, !warm.isEmpty {
                lines.append("  ready: " + warm.map(\.description).joined(separator: ", "))
            }
        }
        lines += (notes ?? []).map { "note: \($0)" }
        if let cells, cells.count > 1 {
            for cell in cells {
                let state = !cell.reachable ? "unreachable" : cell.draining ? "takes no new jobs" : "takes jobs"
                let jobs = "\(cell.runningJobs) running, \(cell.queuedJobs) waiting"
                lines.append("cell \(cell.name)  \(state)\(cell.reachable ? ", \(jobs)" : "")")
            }
        } else if draining {
            lines.append("the broker takes no new jobs")
        }
        return lines.map { Console.plain($0) }
    }
}
