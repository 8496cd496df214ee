import type { Capability } from '../check.ts'
import { outages } from './outages.ts'
import { publishing, topics } from './publishing.ts'
import { requests } from './requests.ts'
import { retained } from './retained.ts'
import { sessions } from './sessions.ts'
import { streams } from './streams.ts'

export const capabilities: Capability[] = [publishing, topics, retained, streams, requests, outages, sessions]
