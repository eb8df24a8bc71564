import Failure
import Logging
import Wire

// The life of one attempt: wait for the connection, ask, move chunks, end. All of it on the bus thread.
extension DataClient {
    func begin(_ identity: UInt64, _ transfer: Transfer) {
        transfers[identity] = transfer
        if Task.isCancelled { return finish(identity, .cancelled) }
        let link: DataLink
        do throws(Failure) {
            link = try openLink(transfer.endpoint)
        } catch {
            return finish(identity, .failed(error))
        }
        link.transfers.insert(identity)
        link.lastUse = .now
        watch(identity)
        if link.isUp { return ask(identity) }
        let patience = min(DataClient.connectPatience, transfer.timeout)
        loop.reactor.schedule(after: patience) { self.assumeIsolated { $0.expectLink(identity) } }
    }

    private func expectLink(_ identity: UInt64) {
        guard let transfer = transfers[identity], links[transfer.endpoint]?.isUp != true else { return }
        finish(identity, .lost("cannot be reached"))
    }

    /// Sends GET or PUT_OPEN under a fresh sequence.
    func ask(_ identity: UInt64) {
        guard let transfer = transfers[identity], transfer.sequence == 0 else { return }
        let message: Message
        switch transfer.work {
        case .fetch:
            var get = Get(
                digest: transfer.digest, offset: 0, length: UInt64(transfer.length), window: UInt32(windowBytes),
                ticket: transfer.ticket)
            switch memoryQuestion(identity, transfer) {
            case .none: break
            case .ask(let wish): get.memory = wish
            // Asks again once it is known.
            case .wait: return
            }
            message = .get(get)
        case .store:
            message = .putOpen(PutOpen(digest: transfer.digest, size: UInt64(transfer.length), ticket: transfer.ticket))
        }
        let (outcome, sequence) = transmit(message, identity)
        switch outcome {
        case .sent:
            transfers[identity]?.sequence = sequence
            bySequence[sequence] = identity
        case .full, .unreachable:
            // The connection is just going away or the queue is full: the monitor or this timer tries again.
            loop.reactor.schedule(after: .milliseconds(50)) { self.assumeIsolated { $0.ask(identity) } }
        }
    }

    private func transmit(_ message: Message, _ identity: UInt64, payload: Frame? = nil) -> (SendOutcome, UInt64) {
        guard let transfer = transfers[identity], let link = links[transfer.endpoint] else { return (.unreachable, 0) }
        do throws(Failure) {
            let (frame, sequence) = try outbox.frame(message, inReplyTo: transfer.sequence)
            return (link.socket.send(payload.map { [.bytes(frame), $0] } ?? [.bytes(frame)]), sequence)
        } catch {
            logger.error("cannot send \(message.messageKind): \(error)")
            return (.unreachable, 0)
        }
    }

    /// Ends the attempt; tells the holder when it would otherwise go on.
    func finish(_ identity: UInt64, _ outcome: TransferOutcome) {
        guard let transfer = transfers[identity] else { return }
        if transfer.sequence != 0 {
            switch outcome {
            case .cancelled, .lost, .failed, .unshared: release(identity)
            case .fetched, .stored, .notHere: break
            }
            bySequence[transfer.sequence] = nil
        }
        transfers[identity] = nil
        if let link = links[transfer.endpoint] {
            link.transfers.remove(identity)
            link.lastUse = .now
        }
        transfer.continuation.resume(returning: outcome)
    }

    /// Tells the holder that nothing more is needed of this blob: what it has set aside is free again.
    func release(_ identity: UInt64) {
        guard let digest = transfers[identity]?.digest else { return }
        _ = transmit(.stop(digest), identity)
    }

    /// Looks at the attempt again when it could at the earliest have been silent for too long.
    private func watch(_ identity: UInt64) {
        guard let transfer = transfers[identity] else { return }
        let silent = ContinuousClock.now - transfer.lastProgress
        if silent >= transfer.timeout || .now >= transfer.deadline {
            return finish(identity, .lost("was silent for \(silent)"))
        }
        loop.reactor.schedule(after: transfer.timeout - silent) { self.assumeIsolated { $0.watch(identity) } }
    }

    // MARK: Answers

    func handle(_ parts: ReceivedParts, from link: DataLink) {
        let envelope: Envelope
        do throws(Failure) {
            guard parts.count == 1 || parts.count == 2 else {
                throw Failure("extra_frames", "a data message of \(parts.count) frames; it has one or two")
            }
            envelope = try EnvelopeCodec.decode(parts[0], from: .store)
            guard envelope.message.messageKind.carriesPayload == (parts.count == 2) else {
                throw Failure("extra_frames", "\(envelope.message.messageKind) with \(parts.count - 1) payload frames")
            }
        } catch {
            return logger.warning("\(link.endpoint) sent no data message of CVB/1: \(error)")
        }
        // Answers to transfers that ended are still under way for a while.
        guard let identity = bySequence[envelope.inReplyTo], transfers[identity]?.endpoint == link.endpoint else {
            return
        }
        transfers[identity]?.lastProgress = .now
        switch envelope.message {
        case .chunk(let chunk): take(chunk, parts[1], identity)
        case .credit(let credit): extend(identity, by: Int(credit.bytes))
        case .stored(let digest) where digest == transfers[identity]?.digest: finish(identity, .stored)
        case .notHere: finish(identity, .notHere)
        case .memoryInvitation(let invitation): accept(invitation, identity, envelope.inReplyTo)
        case .memorySlot(let slot): borrow(slot, identity, envelope.inReplyTo)
        case .busy(let milliseconds): wait(identity, milliseconds, envelope.inReplyTo)
        case .error(let reply):
            var failure = Failure(reply)
            // Damage on the way is worth another try, and so is whatever the disk of the store had,
            // and a ticket that a restarted holder could not verify yet.
            let isWorthAnother = ["bad_crc", "io_error", "ticket_invalid", "ticket_expired"].contains(failure.code)
            if isWorthAnother { failure.retry = .sameWorker }
            finish(identity, .failed(failure))
        default:
            finish(identity, .failed(Failure("unexpected", "\(envelope.message.messageKind) from \(link.endpoint)")))
        }
    }

    private func wait(_ identity: UInt64, _ milliseconds: UInt32, _ sequence: UInt64) {
        bySequence[sequence] = nil
        transfers[identity]?.sequence = 0
        let delay = Duration.milliseconds(Int64(min(max(milliseconds, 1), 5000)))
        loop.reactor.schedule(after: delay) { self.assumeIsolated { $0.ask(identity) } }
    }

    private func take(_ chunk: Chunk, _ payload: UnsafeRawBufferPointer, _ identity: UInt64) {
        guard let transfer = transfers[identity], case .fetch(let buffer, let hash, let received) = transfer.work,
            !transfer.isBorrowing, chunk.digest == transfer.digest, chunk.offset == UInt64(received),
            Int(chunk.length) == payload.count,
            payload.count <= transfer.length - received, payload.count > 0 || transfer.length == 0
        else {
            return finish(
                identity,
                .failed(Failure("malformed", "a chunk of \(payload.count) bytes at \(chunk.offset) does not fit")))
        }
        guard Checksum.crc32c(payload) == chunk.crc else {
            return finish(
                identity,
                .failed(
                    Failure("bad_crc", "the chunk at byte \(chunk.offset) was damaged on its way", retry: .otherWorker))
            )
        }
        buffer.write(payload, at: received)
        hash.append(received..<(received + payload.count))
        let total = received + payload.count
        transfers[identity]?.work = .fetch(buffer: buffer, hash: hash, received: total)
        _ = transmit(.credit(Credit(digest: transfer.digest, bytes: UInt32(payload.count))), identity)
        // The digest is filled in by whoever waits, once the hasher has seen everything.
        if total == transfer.length {
            finish(identity, .fetched(buffer, transfer.digest, .socket(isFallback: transfer.triedMemory)))
        }
    }

    private func extend(_ identity: UInt64, by bytes: Int) {
        // Credit for nothing would make a chunk limit of nothing, and that the end of the blob.
        guard bytes > 0,
            case .store(let tensor, let offset, let credit, let limit, let isDone) = transfers[identity]?.work
        else { return }
        let chunkLimit = limit == 0 ? min(bytes, Limits.chunkBytes) : limit
        transfers[identity]?.work = .store(
            tensor, offset: offset, credit: credit + bytes, chunkLimit: chunkLimit, isDone: isDone)
        pump(identity)
    }

    private func pump(_ identity: UInt64) {
        while let transfer = transfers[identity], !transfer.isParked,
            case .store(let tensor, let offset, let credit, let limit, let isDone) = transfer.work, !isDone
        {
            let length = min(limit, tensor.count - offset)
            guard length <= credit else { return }
            let outcome: SendOutcome
            if length > 0 {
                let chunk = Chunk(
                    digest: transfer.digest, offset: UInt64(offset), length: UInt32(length),
                    crc: Checksum.crc32c(tensor.slice(offset, length)))
                let payload = Frame.pinned(tensor, offset: offset, length: length)
                outcome = transmit(.putChunk(chunk), identity, payload: payload).0
            } else {
                outcome = transmit(.putDone(transfer.digest), identity).0
            }
            guard outcome == .sent else { return park(identity) }
            transfers[identity]?.work = .store(
                tensor, offset: offset + length, credit: credit - length, chunkLimit: limit, isDone: length == 0)
        }
    }

    private func park(_ identity: UInt64) {
        transfers[identity]?.isParked = true
        loop.reactor.schedule(after: DataServer.retryDelay) {
            self.assumeIsolated {
                $0.transfers[identity]?.isParked = false
                $0.pump(identity)
            }
        }
    }
}
