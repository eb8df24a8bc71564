import Crypto
package import Failure

/// What a ticket permits: one blob, one way, for one consumer, under one lease.
package struct TicketTerms: Sendable, Hashable {
    package enum Direction: UInt32, Sendable, Hashable {
        case get = 1
        case put = 2
    }

    package var direction: Direction
    package var digest: Digest
    /// The key of whoever presents the ticket: worth nothing in other hands.
    package var consumer: PublicKey

    package init(direction: Direction, digest: Digest, consumer: PublicKey) {
        self.direction = direction
        self.digest = digest
        self.consumer = consumer
    }
}

/// The broker's short-lived permission to move one blob, presented with GET and PUT_OPEN: a digest alone opens nothing.
package struct Ticket: Sendable, Hashable {
    package static let byteCount = 49
    /// Of the lease it was given for; 0 = a gateway or client.
    package let fence: UInt64
    package let expiresAtUnixMilliseconds: UInt64
    private let code: [UInt8]

    fileprivate init(fence: UInt64, expiresAtUnixMilliseconds: UInt64, code: [UInt8]) {
        self.fence = fence
        self.expiresAtUnixMilliseconds = expiresAtUnixMilliseconds
        self.code = code
    }

    /// Reads version (1 byte), fence and expiry (8 bytes each, little-endian) and code (32 bytes).
    package init?(bytes: [UInt8]) {
        guard bytes.count == Ticket.byteCount, bytes[0] == 1 else { return nil }
        func number(_ start: Int) -> UInt64 { bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(fence: number(1), expiresAtUnixMilliseconds: number(9), code: Array(bytes[17...]))
    }

    package var bytes: [UInt8] {
        [1] + Ticket.littleEndian(fence) + Ticket.littleEndian(expiresAtUnixMilliseconds) + code
    }

    fileprivate static func littleEndian(_ value: UInt64) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
}

/// A key that signs and verifies tickets (HMAC-SHA-256, RFC 2104).
///
/// The broker derives one for each holder from its own secret key, so a holder can verify tickets for itself and forge
/// none for others.
package struct TicketKey: Sendable, Hashable {
    package static let byteCount = 32
    package let bytes: [UInt8]

    /// - Parameter bytes: exactly 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == TicketKey.byteCount else { return nil }
        self.bytes = bytes
    }

    private init(_ code: HMAC<SHA256>.MAC) { bytes = Array(code) }

    /// The broker's own, from the secret half of its key pair.
    package static func master(secret: [UInt8]) -> TicketKey {
        TicketKey(
            HMAC.authenticationCode(for: Array("zoetrope ticket master 1".utf8), using: SymmetricKey(data: secret)))
    }

    /// The key with which `holder` verifies.
    package func derived(for holder: PublicKey) -> TicketKey {
        TicketKey(
            HMAC.authenticationCode(
                for: Array("zoetrope ticket holder 1".utf8) + holder.bytes, using: SymmetricKey(data: bytes)))
    }

    /// Signs a ticket.
    package func issue(_ terms: TicketTerms, fence: UInt64, expiresAtUnixMilliseconds: UInt64) -> Ticket {
        let signed = TicketKey.signed(terms, fence, expiresAtUnixMilliseconds)
        let code = HMAC<SHA256>.authenticationCode(for: signed, using: SymmetricKey(data: bytes))
        return Ticket(fence: fence, expiresAtUnixMilliseconds: expiresAtUnixMilliseconds, code: Array(code))
    }

    /// - Throws: `ticket_invalid` when the ticket is missing, forged or for something else; `ticket_expired`.
    package func check(_ ticket: Ticket?, _ terms: TicketTerms, nowUnixMilliseconds now: UInt64) throws(Failure) {
        guard let ticket else {
            throw Failure("ticket_invalid", "\(terms.direction) of \(terms.digest) came without a ticket")
        }
        let signed = TicketKey.signed(terms, ticket.fence, ticket.expiresAtUnixMilliseconds)
        let isValid = HMAC<SHA256>.isValidAuthenticationCode(
            ticket.codeBytes, authenticating: signed, using: SymmetricKey(data: bytes))
        guard isValid else {
            throw Failure("ticket_invalid", "the ticket is not for this \(terms.direction) of \(terms.digest)")
        }
        guard now < ticket.expiresAtUnixMilliseconds else {
            throw Failure(
                "ticket_expired", "the ticket ended \(now - ticket.expiresAtUnixMilliseconds) ms ago",
                retry: .sameWorker)
        }
    }

    private static func signed(_ terms: TicketTerms, _ fence: UInt64, _ expiry: UInt64) -> [UInt8] {
        Array("zoetrope ticket 1".utf8) + [UInt8(terms.direction.rawValue)] + terms.digest.bytes
            + terms.consumer.bytes + Ticket.littleEndian(fence) + Ticket.littleEndian(expiry)
    }
}

extension Ticket {
    fileprivate var codeBytes: [UInt8] { code }
}
