package import Failure
package import Wire

/// How a process presents itself to a broker behind CURVE.
package struct Credentials: Sendable {
    package var identity: KeyPair
    /// The broker's public key, so that nobody else can pose as it; nil = the broker is on ipc.
    package var brokerKey: PublicKey?

    package init(identity: KeyPair, brokerKey: PublicKey?) {
        self.identity = identity
        self.brokerKey = brokerKey
    }

    /// Reads what `--key` and `--broker-public-key` name; nil without a key.
    ///
    /// - Throws: the codes of `KeyPair` and `PublicKey`; `broker_key_missing` when the broker is on TCP and only the
    ///   own key is given, or only the broker's.
    package static func load(
        key: String?, brokerPublicKey: String?, broker: Endpoint
    ) throws(Failure) -> Credentials? {
        guard let key else {
            guard brokerPublicKey == nil else {
                throw Failure(
                    "broker_key_missing", "--broker-public-key is given, but no key of this process", field: "key",
                    remedy: "Make one with `zoetrope keys new NAME` and give it with --key.")
            }
            return nil
        }
        let brokerKey: PublicKey? = if let brokerPublicKey { try PublicKey(option: brokerPublicKey) } else { nil }
        if case .tcp = broker, brokerKey == nil {
            throw Failure(
                "broker_key_missing", "the broker at \(broker) cannot be told from an impostor without its public key",
                field: "broker-public-key", remedy: "Give the broker's NAME.pub file with --broker-public-key.")
        }
        return Credentials(identity: try KeyPair(file: key), brokerKey: brokerKey)
    }
}

/// What a consumer needs to reach holders behind CURVE: its own key, and somebody to ask for tickets.
package struct DataAccess: Sendable {
    package var identity: KeyPair
    /// Asks the broker. Throws `forbidden` for what the broker does not permit.
    package var ticket: @Sendable (TicketRequest) async throws(Failure) -> Ticket

    package init(
        identity: KeyPair, ticket: @escaping @Sendable (TicketRequest) async throws(Failure) -> Ticket
    ) {
        self.identity = identity
        self.ticket = ticket
    }

    /// Tickets come over a connection to the broker.
    package init(identity: KeyPair, broker client: ControlClient, timeout: Duration = .seconds(10)) {
        self.init(identity: identity) { (request) throws(Failure) in
            let reply = try await client.request(.ticketRequest(request), timeout: timeout)
            guard case .ticket(let ticket) = reply else {
                throw Failure("unexpected", "the broker answered TICKET_REQUEST with \(reply.messageKind)")
            }
            return ticket
        }
    }
}
