import { createHash } from 'node:crypto'
import { extname } from 'node:path'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { CausewayError } from '../../errors.ts'
import { PIECE_BYTES, sendPieces, slices } from '../message/send-pieces.ts'

export interface PageFile {
  type: string
  bytes: Buffer
  etag: string
}

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json; charset=utf-8',
}

export const isPageFile = (name: string): boolean => extname(name) in TYPES

/** A file that is the same for everybody. Its bytes are in memory once, however many clients read them. */
export function pageFile(name: string, bytes: Buffer): PageFile {
  const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`
  return { type: TYPES[extname(name)]!, bytes, etag }
}

/** @throws CausewayError where there is no such file */
export function sendPageFile(file: PageFile | undefined, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (file === undefined) throw new CausewayError('not-found', `There is nothing at ${request.url.split('?', 1)[0]}`)
  // Asked for again on each visit, so that a page never has scripts of an older version.
  reply.header('cache-control', 'no-cache').header('etag', file.etag)
  if (request.headers['if-none-match'] === file.etag) return reply.code(304).send()
  reply.type(file.type)
  if (file.bytes.length <= PIECE_BYTES) return reply.send(file.bytes)
  return sendPieces(reply.header('content-length', file.bytes.length), slices(file.bytes), request.share)
}
