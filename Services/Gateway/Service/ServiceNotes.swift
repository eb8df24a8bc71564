import Runtime
import Wire

/// What a person should look at although everything still works; part of `/healthz` and `/v1/workers`.
enum ServiceNotes {
    /// - Parameter cells: every broker, those that do not answer too.
    static func of(_ cells: [CellReport], own: DescriptorUse = .current()) -> [String] {
        let brokers = cells.compactMap { cell -> (String, DescriptorUse)? in
            guard let used = cell.cluster?.count(.descriptorsUsed), let limit = cell.cluster?.count(.descriptorsLimit)
            else { return nil }
            let name = cells.count == 1 ? "broker" : "broker of \(cell.name)"
            return (name, DescriptorUse(used: Int(used), limit: Int(limit)))
        }
        return (brokers + [("gateway", own)]).compactMap { name, use in
            guard use.isHigh else { return nil }
            return "the \(name) uses \(use); raise LimitNOFILE= or find out who holds its connections"
        }
    }
}
