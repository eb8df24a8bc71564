import Failure
package import Wire

/// What a key's owner may do on the bus.
package enum PeerRole: String, Sendable, Hashable, CaseIterable {
    /// Submits and controls jobs of every tenant, on behalf of whoever asks it. Administration is not its business.
    case gateway
    /// Computes the stages it is authorised for, and touches the tasks leased to it.
    case worker
    /// Submits and follows jobs of its own tenant, which is its name.
    case client
    /// Whatever a gateway may, and administration (drains, dead jobs): for people, and for a gateway that tells
    /// administrators by a token.
    case admin
}

/// The owner of an authorised key.
package struct Principal: Sendable, Hashable {
    /// For people; several keys may share a name while one replaces the other.
    package var name: String
    package var role: PeerRole
    /// Stages a worker may announce; empty = any.
    package var stages: Set<String>
    package var key: PublicKey

    package init(name: String, role: PeerRole, stages: Set<String> = [], key: PublicKey) {
        self.name = name
        self.role = role
        self.stages = stages
        self.key = key
    }

    /// Why this principal may not send `message` to the broker, or nil when it may.
    package func objection(to message: Message) -> String? {
        let kind = message.messageKind
        let side: Role = role == .worker ? .worker : .client
        guard !kind.senders.isDisjoint(with: side) else { return "a \(role) may not send \(kind)" }
        switch message {
        case .hello(let hello):
            let others = Set(hello.capabilities.map(\.stage)).subtracting(stages).sorted()
            guard stages.isEmpty || others.isEmpty else {
                return "the key is authorised for \(stages.sorted().joined(separator: ", ")), "
                    + "not for \(others.joined(separator: ", "))"
            }
        case .submit(let submit) where role == .client:
            guard submit.tenant.isEmpty || submit.tenant == name else {
                return "a client submits as tenant \(name), not as \(submit.tenant)"
            }
        case .drain, .deadQuery, .deadRetry:
            guard role == .admin else { return "a \(role) may not send \(kind): that takes the role admin" }
        default: break
        }
        return nil
    }
}
