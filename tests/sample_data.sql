-- Sample data for the demo and the tests: 16 customers, 40 page views. Loads unchanged into SQLite, PostgreSQL, MariaDB.
-- Query it with --as-of "2026-01-13 12:00:00" and 7 days, the window from 2026-01-06 12:00:00 to 2026-01-13 12:00:00:
-- five customers (1 to 5) are pro and viewed pricing or settings in it.

CREATE TABLE customers (
    id INTEGER NOT NULL PRIMARY KEY,
    email VARCHAR(254) NOT NULL,
    first_name VARCHAR(100),
    last_name VARCHAR(100),
    plan_type VARCHAR(20) NOT NULL,
    candidate VARCHAR(100)
);

CREATE TABLE page_views (
    id INTEGER NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    page VARCHAR(100) NOT NULL,
    device VARCHAR(50),
    browser VARCHAR(50),
    location VARCHAR(100),
    event_time TIMESTAMP NOT NULL,
    FOREIGN KEY (user_id) REFERENCES customers (id)
);

INSERT INTO customers (id, email, first_name, last_name, plan_type, candidate) VALUES
    (1, 'amara.okafor@example.com', 'Amara', 'Okafor', 'pro', 'candidate-7'),
    (2, 'sofia.nunez@example.com', 'Sofía', 'Núñez', 'pro', 'candidate-3'),
    (3, 'wei.zhang@example.com', 'Wei', 'Zhang', 'pro', NULL),
    (4, 'liam.obrien@example.com', 'Liam', 'O''Brien', 'pro', 'candidate-12'),
    (5, 'lukasz.wisniewski@example.com', 'Łukasz', 'Wiśniewski', 'pro', 'candidate-5'),
    (6, 'priya.raman@example.com', 'Priya', 'Raman', 'pro', 'candidate-9'),
    (7, 'yusuf.demir@example.com', 'Yusuf', 'Demir', 'pro', 'candidate-2'),
    (8, 'leilani.kealoha@example.com', 'Leilani', 'Kealoha', 'pro', 'candidate-4'),
    (9, 'noah.goldberg@example.com', 'Noah', 'Goldberg', 'pro', NULL),
    (10, 'ingrid.solberg@example.com', 'Ingrid', 'Solberg', 'free', 'candidate-1'),
    (11, 'mateus.silva@example.com', 'Mateus', 'Silva', 'free', 'candidate-8'),
    (12, 'fatima.alharbi@example.com', 'Fatima', 'Al-Harbi', 'free', NULL),
    (13, 'hana.sato@example.com', 'Hana', 'Sato', 'team', 'candidate-6'),
    (14, 'chloe.dubois@example.com', 'Chloé', 'Dubois', 'team', 'candidate-11'),
    (15, 'tane.ngata@example.com', 'Tāne', 'Ngata', 'team', 'candidate-10'),
    (16, 'grace.muller@example.com', 'Grace', 'Müller', 'free', 'candidate-13');

INSERT INTO page_views (id, user_id, page, device, browser, location, event_time) VALUES
    -- 1: several qualifying views, the latest of them not the latest view of all
    (1, 1, 'home', 'desktop', 'Chrome', 'Lagos, NG', '2026-01-07 08:02:11'),
    (2, 1, 'pricing', 'desktop', 'Chrome', 'Lagos, NG', '2026-01-07 08:04:37'),
    (3, 1, 'settings', 'mobile', 'Chrome', 'Abuja, NG', '2026-01-10 19:21:05'),
    (4, 1, 'pricing', 'desktop', 'Chrome', 'Lagos, NG', '2026-01-13 08:45:12'),
    (5, 1, 'docs', 'desktop', 'Chrome', 'Lagos, NG', '2026-01-13 08:51:40'),
    -- 2: two views in one second; the later id is the later view
    (6, 2, 'pricing', 'tablet', 'Safari', 'Madrid, ES', '2026-01-09 15:02:00'),
    (7, 2, 'settings', 'mobile', 'Safari', 'Madrid, ES', '2026-01-11 17:30:00'),
    (8, 2, 'pricing', 'mobile', 'Safari', 'Madrid, ES', '2026-01-11 17:30:00'),
    -- 3: on the first second of the window, and one second before it
    (9, 3, 'settings', 'desktop', 'Edge', 'Singapore, SG', '2026-01-06 11:59:59'),
    (10, 3, 'settings', 'desktop', 'Edge', 'Singapore, SG', '2026-01-06 12:00:00'),
    (11, 3, 'home', 'desktop', 'Edge', 'Singapore, SG', '2026-01-12 02:13:26'),
    -- 4: on the last second of the window, and one second after it
    (12, 4, 'pricing', 'mobile', 'Firefox', 'Dublin, IE', '2026-01-08 21:47:53'),
    (13, 4, 'settings', 'desktop', 'Firefox', 'Dublin, IE', '2026-01-13 12:00:00'),
    (14, 4, 'pricing', 'desktop', 'Firefox', 'Dublin, IE', '2026-01-13 12:00:01'),
    -- 5: one qualifying view, without a location
    (15, 5, 'home', 'desktop', 'Firefox', NULL, '2026-01-12 06:58:30'),
    (16, 5, 'settings', 'desktop', 'Firefox', NULL, '2026-01-12 07:03:44'),
    -- 6 and 7: pro, but on other pages only
    (17, 6, 'home', 'mobile', 'Chrome', 'Chennai, IN', '2026-01-08 04:15:09'),
    (18, 6, 'docs', 'mobile', 'Chrome', 'Chennai, IN', '2026-01-08 04:17:22'),
    (19, 6, 'blog', 'desktop', 'Chrome', 'Bengaluru, IN', '2026-01-12 10:44:51'),
    (20, 7, 'home', 'desktop', 'Opera', 'Izmir, TR', '2026-01-10 13:08:16'),
    (21, 7, 'dashboard', 'desktop', 'Opera', 'Izmir, TR', '2026-01-10 13:09:02'),
    -- 8: pro, but outside the window only; 9: pro, no view at all
    (22, 8, 'pricing', 'mobile', 'Safari', 'Honolulu, US', '2026-01-06 03:30:18'),
    (23, 8, 'settings', 'mobile', 'Safari', 'Honolulu, US', '2026-01-06 03:34:55'),
    (24, 8, 'pricing', 'desktop', 'Chrome', 'Honolulu, US', '2026-01-13 18:20:41'),
    -- 10 to 16: other plans
    (25, 10, 'pricing', 'desktop', 'Chrome', 'Oslo, NO', '2026-01-07 09:11:48'),
    (26, 10, 'pricing', 'mobile', 'Safari', 'Oslo, NO', '2026-01-11 20:05:13'),
    (27, 10, 'signup', 'mobile', 'Safari', 'Oslo, NO', '2026-01-11 20:07:34'),
    (28, 11, 'home', 'mobile', 'Samsung Internet', 'Recife, BR', '2026-01-09 23:51:07'),
    (29, 11, 'pricing', 'mobile', 'Samsung Internet', 'Recife, BR', '2026-01-09 23:52:59'),
    (30, 12, 'settings', 'tablet', 'Safari', 'Jeddah, SA', '2026-01-08 16:40:25'),
    (31, 12, 'blog', 'tablet', 'Safari', 'Jeddah, SA', '2026-01-12 18:02:10'),
    (32, 13, 'settings', 'desktop', 'Chrome', 'Osaka, JP', '2026-01-07 01:25:36'),
    (33, 13, 'pricing', 'desktop', 'Chrome', 'Osaka, JP', '2026-01-12 00:19:58'),
    (34, 13, 'docs', 'desktop', 'Chrome', 'Osaka, JP', '2026-01-12 00:31:42'),
    (35, 14, 'settings', 'desktop', 'Firefox', 'Lyon, FR', '2026-01-09 10:07:20'),
    (36, 14, 'settings', 'mobile', 'Firefox', 'Lyon, FR', '2026-01-13 06:55:03'),
    (37, 15, 'pricing', 'desktop', 'Edge', 'Wellington, NZ', '2026-01-06 21:14:47'),
    (38, 15, 'dashboard', 'desktop', 'Edge', 'Wellington, NZ', '2026-01-10 22:36:29'),
    (39, 16, 'home', 'mobile', 'Chrome', 'Zurich, CH', '2026-01-11 12:28:14'),
    (40, 16, 'pricing', 'mobile', 'Chrome', 'Zurich, CH', '2026-01-13 11:02:33');
